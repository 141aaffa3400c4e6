"use strict";

/* The calls of the service, as its OpenAPI description lists them. */

document.addEventListener("DOMContentLoaded", async () => {
  switchTheme(find("theme"));
  const found = await (await fetch("/openapi.json")).json();
  find("subtitle").textContent = `Version ${found.info.version}, OpenAPI ${found.openapi}`;
  find("about").textContent = found.info.description.replaceAll("`", "");
  find("example").textContent = [
    `SERVICE=${location.origin}  TOKEN=...  # of the address that pellucid serve printed`,
    'curl -H "Authorization: Bearer $TOKEN" --data-binary @S2.tif "$SERVICE/api/uploads?name=S2.tif"',
    `curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" $SERVICE/api/jobs \\`,
    `  -d '{"command": "remove-clouds", "files": {"scene": [{"upload": "..."}]}, "options": {"uncertainty": true}}'`,
    'curl -H "Authorization: Bearer $TOKEN" -N $SERVICE/api/events',
    'curl -H "Authorization: Bearer $TOKEN" -O $SERVICE/jobs/ID/result/clear.tif',
  ].join("\n");
  const calls = Object.entries(found.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, call]) => showCall(found, path, method, call)));
  find("list").replaceChildren(...calls);
  document.body.setAttribute("data-ready", "");
});

function showCall(description, path, method, call) {
  const rows = (call.parameters ?? []).map((each) => [each.name, `in the ${each.in}${each.required ? ", needed" : ""}`]);
  const content = call.requestBody?.content ?? {};
  for (const [kind, { schema }] of Object.entries(content)) {
    const full = schema.$ref ? description.components.schemas[schema.$ref.split("/").at(-1)] : schema;
    for (const [name, field] of Object.entries(full.properties ?? {})) {
      const isNeeded = full.required?.includes(name);
      rows.push([name, `in the body${isNeeded ? ", needed" : ""}${field.description ? `: ${field.description}` : ""}`]);
    }
    if (!full.properties) rows.push(["body", kind]);
  }
  const list = make("dl", {});
  describe(list, rows);
  const title = make("h3", {}, make("span", { class: "method" }, method.toUpperCase()), ` ${path}`);
  return make("section", { class: "call" }, title, make("p", {}, call.summary), list);
}
