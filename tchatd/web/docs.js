// Draws /openapi.json. Text goes in as text nodes only: nothing of it is ever markup.
"use strict";

const DEPTH_MAX = 6;
let schemas = {};

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function resolved(schema) {
  const name = schema && schema.$ref && schema.$ref.split("/").pop();
  return name ? schemas[name] || {} : schema || {};
}

function typeName(schema, depth = 0) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (depth > DEPTH_MAX) return "…";
  const options = schema.anyOf || schema.oneOf;
  if (options) return options.map((option) => typeName(option, depth + 1)).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `${typeName(schema.items || {}, depth + 1)}[]`;
  return schema.format ? `${schema.type} (${schema.format})` : String(schema.type || "any");
}

const LIMITS = { minLength: "≥ %", maxLength: "≤ %", minimum: "≥ %", maximum: "≤ %",
  minItems: "≥ % items", maxItems: "≤ % items", pattern: "matches %", default: "default %" };

function limits(schema) {
  return Object.entries(LIMITS)
    .filter(([key]) => schema[key] !== undefined)
    .map(([key, text]) => text.replace("%", () => String(schema[key])))
    .join(", ");
}

function example(schema, depth = 0) {
  const plain = resolved(schema);
  if (plain.default !== undefined) return plain.default;
  if (plain.enum) return plain.enum[0];
  if (depth > DEPTH_MAX) return null;
  const options = plain.anyOf || plain.oneOf;
  if (options) return example(options[0], depth + 1);
  if (plain.type === "array") return plain.minItems ? [example(plain.items || {}, depth + 1)] : [];
  if (plain.type === "object") {
    const required = plain.required || [];
    return Object.fromEntries(Object.entries(plain.properties || {})
      .filter(([name]) => required.includes(name))
      .map(([name, member]) => [name, example(member, depth + 1)]));
  }
  if (plain.type === "integer" || plain.type === "number") return plain.minimum || 0;
  if (plain.type === "boolean") return false;
  return plain.type === "string" ? "" : null;
}

function memberRows(schema) {
  const plain = resolved(schema);
  const required = plain.required || [];
  return Object.entries(plain.properties || {}).map(([name, member]) =>
    row(name, required.includes(name), member));
}

function row(name, required, schema) {
  return element("tr", {}, element("td", {}, element("code", {}, name)),
    element("td", {}, required ? "required" : ""),
    element("td", {}, typeName(schema)), element("td", { class: "muted" }, limits(schema)));
}

function table(title, rows) {
  if (!rows.length) return null;
  return element("section", {}, element("h3", {}, title),
    element("table", {}, element("tbody", {}, ...rows)));
}

function answers(responses) {
  return Object.entries(responses).map(([status, response]) => {
    const [media, content] = Object.entries(response.content || {})[0] || [];
    const type = content ? typeName(content.schema || {}) : "no body";
    return element("tr", {}, element("td", {}, element("code", {}, status)),
      element("td", {}, response.description), element("td", {}, type),
      element("td", { class: "muted" }, media || ""));
  });
}

function tryForm(path, verb, operation, body) {
  const inputs = operation.parameters.map((parameter) => {
    const input = element("input", { "aria-label": parameter.name, spellcheck: "false" });
    return { parameter, input };
  });
  const text = body ? element("textarea", { "aria-label": "Body", spellcheck: "false" }) : null;
  if (text) text.value = JSON.stringify(example(body), null, 2);
  const shown = element("pre", { hidden: "" });
  const button = element("button", { type: "button" }, "Send");
  button.addEventListener("click", () => send(path, verb, inputs, text, shown));
  return element("section", {}, element("h3", {}, "Try"),
    ...inputs.map(({ parameter, input }) =>
      element("label", {}, `${parameter.name} (${parameter.in})`, input)),
    text, button, shown);
}

async function send(path, verb, inputs, text, shown) {
  const query = new URLSearchParams();
  const headers = {};
  let target = path;
  for (const { parameter, input } of inputs) {
    if (parameter.in === "path") {
      target = target.replace(`{${parameter.name}}`, () => encodeURIComponent(input.value));
    } else if (input.value) {
      if (parameter.in === "query") query.set(parameter.name, input.value);
      else headers[parameter.name] = input.value;
    }
  }
  const token = document.getElementById("token").value.trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  if (text) headers["Content-Type"] = "application/json";
  if ([...query].length) target += `?${query}`;
  shown.hidden = false;
  try {
    const response = await fetch(target,
      { method: verb.toUpperCase(), headers, body: text ? text.value : undefined });
    const answer = await response.text();
    shown.textContent = `${response.status} ${response.statusText}\n${pretty(answer)}`;
  } catch (error) {
    shown.textContent = String(error);
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function operationView(path, verb, operation) {
  const content = operation.requestBody && operation.requestBody.content["application/json"];
  const body = content && content.schema;
  const parameters = operation.parameters.map((parameter) =>
    row(`${parameter.name} (${parameter.in})`, parameter.required, parameter.schema));
  return element("details", { id: operation.operationId },
    element("summary", {}, element("span", { class: "verb" }, verb.toUpperCase()),
      element("span", { class: "path" }, path), element("span", {}, operation.summary),
      operation.security.length ? element("span", { class: "muted" }, "signed in") : null),
    element("div", { class: "inside" }, table("Parameters", parameters),
      body ? table("Body", memberRows(body)) : null,
      table("Answers", answers(operation.responses)), tryForm(path, verb, operation, body)));
}

function schemaView(name, schema) {
  const shown = element("pre", {}, JSON.stringify(schema, null, 2));
  return element("details", { id: `schema-${name}` }, element("summary", {}, name),
    element("div", { class: "inside" }, shown));
}

function draw(description) {
  schemas = description.components.schemas;
  const main = document.getElementById("operations");
  const nav = document.getElementById("tags");
  document.getElementById("title").textContent =
    `${description.info.title} ${description.info.version}`;
  document.getElementById("description").textContent = description.info.description;
  main.replaceChildren();
  const groups = [...description.tags.map((tag) => tag.name), "Schemas"];
  for (const group of groups) {
    nav.append(element("a", { href: `#${group}` }, group));
    main.append(element("h2", { id: group }, group));
    for (const [path, item] of Object.entries(description.paths)) {
      for (const [verb, operation] of Object.entries(item)) {
        if (operation.tags.includes(group)) main.append(operationView(path, verb, operation));
      }
    }
  }
  main.append(...Object.entries(schemas).map(([name, schema]) => schemaView(name, schema)));
  const chosen = location.hash && document.getElementById(location.hash.slice(1));
  if (chosen) {
    chosen.open = true;
    chosen.scrollIntoView();
  }
}

fetch("/openapi.json").then((response) => response.json()).then(draw).catch((error) => {
  document.getElementById("operations").textContent = `/openapi.json: ${error}`;
});
