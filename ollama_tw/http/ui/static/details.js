// Description of one model, as /api/show has it.

import { request } from "./api.js";
import { openDialog } from "./dialogs.js";
import { copyButton, h, scrollable, visible } from "./dom.js";
import { bytes, count, shortName } from "./format.js";

const SECTIONS = [
	["system", "Instructions"],
	["parameters", "Parameters"],
	["template", "Template"],
	["modelfile", "Modelfile"],
	["license", "Licence"],
];

function fact(name, value) {
	if (value === undefined || value === null || value === "") return null;
	return h("div", h("dt", name), h("dd", visible(String(value))));
}

function section(name, text) {
	const head = h("figcaption", h("span", name), copyButton(() => text, `Copy: ${name}`));
	return h("details.fold", h("summary", name), h("figure.code", head, scrollable("pre", name, visible(text))));
}

/** Show what the server knows about `model`, an entry of /api/tags; `loaded` is its entry of /api/ps, if any. */
export function openDetails(model, loaded) {
	const body = h("div.details", { "aria-live": "polite" }, h("p", "Reading the model"));
	openDialog(visible(shortName(model.name)), () => body);
	request("POST", "show", { model: model.name })
		.then((response) => response.json())
		.then((shown) => body.replaceChildren(...content(model, loaded, shown)))
		.catch((error) => body.replaceChildren(h("p.failure", { role: "alert" }, error.message)));
}

function content(model, loaded, shown) {
	const { details = {}, model_info: info = {}, capabilities = [] } = shown;
	const value = (suffix) => Object.entries(info).find(([name]) => name.endsWith(suffix))?.[1];
	const whole = (number) => (typeof number === "number" ? count(number) : undefined);
	const facts = h("dl.facts-list",
		fact("Family", details.family),
		fact("Parameters", details.parameter_size),
		fact("Quantization", details.quantization_level),
		fact("Trained context", whole(value(".context_length"))),
		fact("Embedding length", whole(value(".embedding_length"))),
		fact("Layers", whole(value(".block_count"))),
		fact("Size on disk", bytes(model.size)),
		fact("In memory", loaded && bytes(loaded.size)),
		fact("Context in memory", loaded && whole(loaded.context_length)),
		fact("Can do", capabilities.join(", ")),
		fact("Changed", new Date(model.modified_at).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" })),
		fact("Runs on", shown.remote_host),
		fact("Digest", model.digest?.slice(0, 12)),
	);
	return [facts, ...SECTIONS.filter(([name]) => shown[name]).map(([name, title]) => section(title, shown[name]))];
}
