"use strict";
// Everything that comes from the model or the user is written with textContent: a label is never markup.
const SAYS = {
  en: {
    ask: "Ask", drop: "Drop an image here, or paste one.", choose: "Choose an image…", draw: "Or draw",
    keys: "Mouse, finger or pen. By keyboard: arrow keys move, with Shift they draw.", answer: "Answer", clear: "Clear",
    dark: "dark lines on light ground", text: "A text", result: "Answer", nothing: "Nothing asked yet.",
    unsure: "The model is not sure enough to give an answer; these are its probabilities.", all: "Show all classes",
    working: "Computing…", offline: "The service cannot be reached.", canvas: "Drawing area, 280 by 280",
    preview: "The image that was asked", empty: "Nothing is drawn yet.", blank: "Write a text first.",
    unknown: "unknown", classes: (n) => `${n} classes`, took: (ms) => `${ms} ms`,
    refused: {}, // the service's own sentence
  },
  zh: {
    ask: "提问", drop: "将图片拖到这里，或直接粘贴。", choose: "选择图片…", draw: "或者手绘",
    keys: "可用鼠标、手指或触控笔；键盘：方向键移动，按住 Shift 画线。", answer: "识别", clear: "清除",
    dark: "浅底深色线条", text: "文本", result: "结果", nothing: "还没有提问。",
    unsure: "模型把握不足，不作判断；以下是各类别的概率。", all: "显示全部类别",
    working: "计算中…", offline: "无法连接服务。", canvas: "绘图区，280 × 280",
    preview: "所提问的图片", empty: "还没有画任何内容。", blank: "请先输入文本。",
    unknown: "未知", classes: (n) => `${n} 个类别`, took: (ms) => `${ms} 毫秒`,
    refused: { // by the code of an error
      busy: "等待的请求太多，请稍后再试。", draining: "服务正在停止，请稍后再试。", encoded: "不支持压缩过的请求内容。",
      failed: "服务出错，未能给出结果。", gone: "请求已取消。", late: "来不及在时限内给出结果，请稍后再试。",
      no_key: "缺少 API 密钥，或密钥不正确。", not_a_form: "无法读取该表单。", not_found: "没有这个地址或模型。",
      not_json: "请求内容不是 JSON。", not_utf8: "请求内容不是 UTF-8 编码。", refused: "不允许这样请求。",
      stuck: "模型没有响应，请稍后再试。", too_deep: "JSON 嵌套过深。", too_large: "内容过大，超过了服务的上限。",
      too_many_pixels: "图片像素太多，请缩小后再发送。",
      too_many: "一次提交的数量太多，无法在时限内完成。", unreadable: "无法读取该内容：文件可能已损坏，或格式不受支持。",
      wrong_count: "提交的数量不符合要求。", wrong_data: "张量的数据不符合要求。", wrong_fields: "请求中的字段不符合要求。",
      wrong_id: "id 不是字符串。", wrong_inputs: "输入张量不符合要求。", wrong_method: "该地址不支持这种请求方法。",
      wrong_shape: "张量的形状不符合要求。", wrong_type: "服务不支持这种类型的内容。",
    },
  },
};
const FEW = 10, SMALL = 64;
const at = (id) => document.getElementById(id);
const show = (id, is) => { at(id).hidden = !is; };
let words = SAYS.en, info = null, last = null, wrong = null, asked = 0, picture = null;

function speak(language) {
  words = SAYS[language];
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-says]")) node.textContent = words[node.dataset.says];
  for (const node of document.querySelectorAll("[data-language]"))
    node.setAttribute("aria-pressed", String(node.dataset.language === language));
  at("canvas").setAttribute("aria-label", words.canvas);
  at("preview").alt = words.preview;
  if (info) at("model-facts").textContent = words.classes(info.classes.length);
  if (last) tell(last.answer, last.milliseconds, last.isWhole);
  if (wrong) problem(wrong);
}

async function start() {
  speak((navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en");
  try {
    const response = await fetch("model/info");
    if (!response.ok) throw new Error();
    info = (await response.json()).models[0];
  } catch {
    return problem((said) => said.offline);
  }
  at("model-name").textContent = info.name;
  document.title = info.name;
  at("model-facts").textContent = words.classes(info.classes.length);
  const isText = info.kind === "texts";
  show("texts", isText);
  show("images", !isText);
  if (!isText) {
    const [channels, height, width] = info.input_shape;
    show("drawing", channels === 1 && height <= SMALL && width <= SMALL);
    clear();
  }
}

async function ask(body, type) {
  const turn = ++asked;
  const headers = type ? { "Content-Type": type } : {};
  show("problem", false);
  wrong = null;
  show("nothing", true);
  at("nothing").textContent = words.working;
  const started = performance.now();
  let response, found;
  try {
    response = await fetch("predict", { method: "POST", headers, body });
    found = await response.json();
  } catch {
    if (turn === asked) problem((said) => said.offline);
    return;
  }
  if (turn !== asked) return; // a later question was asked meanwhile
  if (!response.ok) return problem((said) => refusal(said, response.status, found.error));
  tell(found, Math.round(performance.now() - started), false);
}

function refusal(said, status, error) {
  if (!error) return String(status);
  return Object.hasOwn(said.refused, error.code) ? said.refused[error.code] : error.message;
}

function tell(answer, milliseconds, isWhole) {
  last = { answer, milliseconds, isWhole };
  wrong = null;
  show("nothing", false);
  show("problem", false);
  const ranked = Object.entries(answer.probabilities).sort((one, other) => other[1] - one[1]);
  at("said").textContent = answer.unknown ? words.unknown : answer.class;
  show("said", true);
  show("unsure", answer.unknown);
  const isLong = ranked.length > FEW && !isWhole;
  at("bars").replaceChildren(...ranked.slice(0, isLong ? FEW : ranked.length).map(bar));
  show("all", isLong);
  at("facts").textContent = [answer.model, words.took(milliseconds), answer.id].join(" · ");
}

function bar([label, share]) {
  const row = document.createElement("li");
  const name = document.createElement("span"), meter = document.createElement("meter"), told = document.createElement("span");
  name.className = "label";
  name.textContent = label;
  meter.value = share;
  meter.setAttribute("aria-label", label);
  told.className = "share";
  told.textContent = (100 * share).toFixed(1) + " %";
  row.append(name, meter, told);
  return row;
}

// `sentence`: of the words of a language, which may be changed while it stands there
function problem(sentence) {
  last = null;
  wrong = sentence;
  for (const id of ["nothing", "said", "unsure", "all"]) show(id, false);
  at("bars").replaceChildren();
  at("facts").textContent = "";
  at("problem").textContent = sentence(words);
  show("problem", true);
}

// Images

function askImage(file) {
  if (!file || info === null || info.kind === "texts") return;
  if (picture) URL.revokeObjectURL(picture);
  picture = URL.createObjectURL(file);
  at("preview").src = picture;
  show("preview", true);
  ask(file, "application/octet-stream");
}

at("choose").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", (event) => { askImage(event.target.files[0]); event.target.value = ""; });
for (const kind of ["dragenter", "dragover"])
  at("drop").addEventListener(kind, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
at("drop").addEventListener("dragleave", () => at("drop").classList.remove("over"));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault(); // beside the field, too: the browser would leave the page for the image
  at("drop").classList.remove("over");
  askImage(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => askImage([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));

// Drawing

const canvas = at("canvas"), pen = canvas.getContext("2d"), STEP = 8;
let place = { x: 140, y: 140 }, isDrawing = false, isEmpty = true;

function clear() {
  pen.fillStyle = at("dark").checked ? "#fff" : "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  isEmpty = true;
}

function line(from, to) {
  pen.strokeStyle = at("dark").checked ? "#000" : "#fff";
  pen.lineWidth = Math.max(20, 1.7 * canvas.height / info.input_shape[1]); // what is left of it in the model's pixels
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(from.x, from.y);
  pen.lineTo(to.x, to.y);
  pen.stroke();
  isEmpty = false;
}

function point(event) {
  const box = canvas.getBoundingClientRect();
  return { x: (event.clientX - box.left) * canvas.width / box.width, y: (event.clientY - box.top) * canvas.height / box.height };
}

function askDrawing() {
  if (isEmpty) return problem((said) => said.empty);
  canvas.toBlob((blob) => ask(blob, "application/octet-stream"), "image/png");
}

canvas.addEventListener("pointerdown", (event) => {
  isDrawing = true;
  canvas.setPointerCapture(event.pointerId);
  place = point(event);
  line(place, place);
});
canvas.addEventListener("pointermove", (event) => {
  if (!isDrawing) return;
  const to = point(event);
  line(place, to);
  place = to;
});
for (const kind of ["pointerup", "pointercancel"])
  canvas.addEventListener(kind, () => { if (isDrawing) { isDrawing = false; askDrawing(); } });
canvas.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const move = moves[event.key];
  if (event.key === "Enter") return askDrawing();
  if (!move) return undefined;
  event.preventDefault();
  const clip = (value) => Math.min(canvas.width, Math.max(0, value));
  const to = { x: clip(place.x + STEP * move[0]), y: clip(place.y + STEP * move[1]) };
  if (event.shiftKey) line(place, to);
  place = to;
  return undefined;
});
at("answer-drawing").addEventListener("click", askDrawing);
at("clear").addEventListener("click", clear);
at("dark").addEventListener("change", clear);

// Texts

at("texts").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("text").value;
  if (!text.trim()) return problem((said) => said.blank);
  return ask(JSON.stringify({ text }), "application/json");
});
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("texts").requestSubmit();
});

at("all").addEventListener("click", () => tell(last.answer, last.milliseconds, true));
for (const node of document.querySelectorAll("[data-language]"))
  node.addEventListener("click", () => speak(node.dataset.language));
start();
