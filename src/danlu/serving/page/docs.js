"use strict";
const make = (name, text, parent) => {
  const node = document.createElement(name);
  node.textContent = text;
  parent.append(node);
  return node;
};

function example(path, type, body) {
  const url = decodeURI(new URL(path.slice(1), new URL(".", location.href)).href);
  if (type === "multipart/form-data") return `curl -F ${Object.keys(body.schema.properties)[0]}=@a.jpg ${url}`;
  if (type === "application/json") return `curl --json '{…}' ${url}`;
  return type ? `curl --data-binary @FILE -H 'Content-Type: ${type}' ${url}` : `curl ${url}`;
}

fetch("openapi.json").then((response) => response.json()).then((found) => {
  document.getElementById("about").textContent = `${found.info.description} ${found.info.version}`;
  const routes = document.getElementById("routes");
  for (const [path, methods] of Object.entries(found.paths))
    for (const [method, told] of Object.entries(methods)) {
      const section = make("section", "", routes);
      make("h2", `${method.toUpperCase()} ${path}`, section);
      make("p", told.summary || "", section);
      const bodies = Object.entries(told.requestBody ? told.requestBody.content : { "": null });
      for (const [type, body] of bodies) {
        make("code", example(path, type, body), make("p", "", section));
        if (type === "application/json") make("pre", JSON.stringify(body.schema, null, 1), section);
      }
      const list = make("ul", "", section);
      for (const [status, answer] of Object.entries(told.responses)) make("li", `${status}: ${answer.description}`, list);
    }
});
