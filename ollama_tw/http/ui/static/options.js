// Instructions and options of the chat: a form at the side, kept for this tab.

import { openDialog } from "./dialogs.js";
import { Problem, button, h } from "./dom.js";

const STORED = "ollama-options";

const NUMBERS = [
	["temperature", "Temperature", "0 picks the likeliest token, more than 1 is wild", { min: 0, max: 5, step: 0.1 }],
	["top_p", "Top p", "share of the likeliest tokens to choose from", { min: 0, max: 1, step: 0.05 }],
	["top_k", "Top k", "number of the likeliest tokens to choose from", { min: 0, step: 1 }],
	["num_ctx", "Context length", "tokens of conversation and answer", { min: 1, step: 1 }],
	["num_predict", "Longest answer", "tokens; −1 is no limit", { min: -2, step: 1 }],
	["seed", "Seed", "the same number gives the same answer again", { step: 1 }],
];

const EXAMPLE = '[{"type": "function", "function": {"name": "weather", "description": "Weather of a city", "parameters": {…}}}]';

let stored = {};
try {
	stored = JSON.parse(sessionStorage.getItem(STORED) ?? "{}");
} catch {
	// Of another version of the page.
}

/** Return the parts of a chat request that the form has set, and the system prompt. */
export function chosenOptions() {
	const options = {};
	for (const [name] of NUMBERS) if (stored[name]) options[name] = Number(stored[name]);
	if (stored.stop) options.stop = stored.stop.split("\n").filter((line) => line !== "");
	const body = {};
	if (Object.keys(options).length > 0) body.options = options;
	if (stored.tools) body.tools = JSON.parse(stored.tools);
	if (stored.format) body.format = "json";
	if (stored.keep_alive) body.keep_alive = /^-?\d+$/.test(stored.keep_alive) ? Number(stored.keep_alive) : stored.keep_alive;
	return { system: stored.system ?? "", body };
}

export const hasOptions = () => Object.values(stored).some((value) => value !== "" && value !== false);

function toolsProblem(text) {
	if (text.trim() === "") return "";
	try {
		if (Array.isArray(JSON.parse(text))) return "";
	} catch (error) {
		return `The tools are not JSON: ${error.message}`;
	}
	return "The tools must be a JSON array.";
}

function row(label, note, field) {
	return h("label.row", h("span", label, h("small", note)), field);
}

/** Open the form; `onchange` is called when it has closed. */
export function openOptions(onchange) {
	const form = h("form.options", { onsubmit: (event) => event.preventDefault() });
	const text = (name, attributes) => {
		const area = h("textarea.field", { name, spellcheck: "false", ...attributes });
		area.value = stored[name] ?? "";
		return area;
	};
	const system = text("system", { rows: "5", spellcheck: "true", autofocus: true, dir: "auto", placeholder: "You are a careful editor. Answer briefly." });
	const tools = text("tools", { rows: "4", placeholder: EXAMPLE });
	const problem = new Problem();
	const format = h("input", { type: "checkbox", name: "format" });
	format.checked = Boolean(stored.format);
	const keepAlive = h("input.field", { name: "keep_alive", placeholder: "default", value: stored.keep_alive });

	const read = () => {
		const given = Object.fromEntries(new FormData(form));
		const wrong = toolsProblem(given.tools);
		problem.show(wrong);
		stored = { ...given, format: format.checked, tools: wrong === "" ? given.tools.trim() : (stored.tools ?? "") };
		sessionStorage.setItem(STORED, JSON.stringify(stored));
	};
	const reset = () => {
		for (const field of form.elements) {
			if (field.type === "checkbox") field.checked = false;
			else field.value = "";
		}
		read();
	};
	form.addEventListener("input", read);
	form.append(
		h("label.stack", h("span", "Instructions", h("small", "the system prompt of every message")), system),
		h("fieldset", h("legend", "Options"), NUMBERS.map(([name, label, note, limits]) =>
			row(label, note, h("input.field", { type: "number", name, placeholder: "default", inputmode: "decimal", value: stored[name], ...limits })),
		),
		row("Stop texts", "one a line", text("stop", { rows: "2" })),
		row("Stays loaded", "such as 10m; −1 is for ever", keepAlive),
		row("Answer in JSON", "the answer is one JSON value", format)),
		h("label.stack", h("span", "Tools", h("small", "functions the model may call, as JSON")), tools),
		problem.element,
		h("div.dialog-actions", button("Reset to defaults", reset)),
	);
	openDialog("Instructions and options", () => form, { className: "drawer", onclose: onchange });
}
