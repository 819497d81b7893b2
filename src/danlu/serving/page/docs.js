"use strict";
const make = (name, text, parent) => {
  const node = document.createElement(name);
  node.textContent = text;
  parent.append(node);
  return node;
};

// What a schema allows, as short as it can be; undefined where only the model knows.
function sample(schema) {
  if ("example" in schema) return schema.example;
  if ("const" in schema) return schema.const;
  if (schema.oneOf) return schema.oneOf.map(sample).find((one) => one !== undefined);
  if (schema.type === "array") {
    const item = sample(schema.items);
    return item === undefined ? undefined : [item];
  }
  if (schema.type !== "object") return undefined;
  const names = schema.required || [];
  const values = names.map((name) => sample(schema.properties[name]));
  return values.includes(undefined) ? undefined : Object.fromEntries(names.map((name, i) => [name, values[i]]));
}

function example(path, type, body, key) {
  const url = decodeURI(new URL(path.slice(1), new URL(".", location.href)).href);
  const asked = key ? `curl -H 'X-API-Key: KEY'` : "curl";
  if (type === "multipart/form-data") return `${asked} -F ${Object.keys(body.schema.properties)[0]}=@a.jpg ${url}`;
  if (type === "application/json") {
    const json = sample(body.schema);
    return `${asked} --json ${json === undefined ? "@request.json" : `'${JSON.stringify(json)}'`} ${url}`;
  }
  const file = { "image/jpeg": "a.jpg", "image/png": "a.png", "text/plain": "a.txt" }[type] || "FILE";
  return type ? `${asked} --data-binary @${file} -H 'Content-Type: ${type}' ${url}` : `${asked} ${url}`;
}

const asked = (path) => fetch(path).then((response) => response.json());

Promise.all([asked("openapi.json"), asked("model/info")]).then(([found, info]) => {
  document.getElementById("about").textContent = `${found.info.description} ${found.info.version}`;
  const routes = document.getElementById("routes");
  for (const [path, methods] of Object.entries(found.paths))
    for (const [method, told] of Object.entries(methods)) {
      const section = make("section", "", routes);
      make("h2", `${method.toUpperCase()} ${path}`, section);
      make("p", told.summary || "", section);
      const bodies = Object.entries(told.requestBody ? told.requestBody.content : { "": null });
      const key = (told.security || found.security || []).length > 0;
      for (const [type, body] of bodies) {
        make("code", example(path.replace("{name}", info.models[0].name), type, body, key), make("p", "", section));
        if (type === "application/json") make("pre", JSON.stringify(body.schema, null, 1), section);
      }
      const list = make("ul", "", section);
      for (const [status, answer] of Object.entries(told.responses)) make("li", `${status}: ${answer.description}`, list);
    }
});
