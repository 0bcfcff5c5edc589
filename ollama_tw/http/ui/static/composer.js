// Composer of the chat: the text, the attached images, and the choice of model and thinking.

import { Problem, h, icon, iconButton } from "./dom.js";
import { shortName } from "./format.js";
import { imageURL } from "./message.js";

const MAX_IMAGE = 20e6;
const TOUCH = matchMedia("(pointer: coarse)");

const THINKING = [
	["", "Thinking"],
	["true", "Thinking on"],
	["false", "Thinking off"],
	["low", "Thinking low"],
	["medium", "Thinking medium"],
	["high", "Thinking high"],
];

async function toBase64(file) {
	const bytes = new Uint8Array(await file.arrayBuffer());
	let binary = "";
	for (let at = 0; at < bytes.length; at += 0x8000) binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
	return btoa(binary);
}

/** Form below the conversation. `onsend({content, images})`, `onstop()` and `onmodel(name)` are called by it. */
export class Composer {
	#models = [];
	#images = [];
	#running = false;
	#connected = false;

	#text = h("textarea", { rows: "1", placeholder: "Message", "aria-label": "Message", dir: "auto" });
	#model = h("select.quiet-select", { "aria-label": "Model" });
	#think = h("select.quiet-select", { "aria-label": "Thinking" }, THINKING.map(([value, name]) => h("option", { value }, name)));
	#file = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true });
	#attach = iconButton("attach", "Attach images", () => this.#file.click());
	#previews = h("div.previews", { hidden: true });
	#send = h("button.send", { type: "submit" });
	#problem = new Problem();

	constructor({ onsend, onstop, onmodel, onsettings, onnew }) {
		this.onsend = onsend;
		this.onstop = onstop;
		this.settingsButton = iconButton("settings", "Instructions and options", onsettings);
		this.newButton = iconButton("plus", "New chat", onnew);
		this.element = h("form.composer", { onsubmit: (event) => this.#submit(event) },
			this.#problem.element,
			this.#previews,
			this.#text,
			h("div.controls", this.#model, this.#think, this.#attach, this.#file, h("span.gap"), this.settingsButton, this.newButton, this.#send),
		);
		this.#text.addEventListener("input", () => this.#changed());
		this.#text.addEventListener("keydown", (event) => this.#key(event));
		this.#text.addEventListener("paste", (event) => this.#add([...event.clipboardData.files]));
		this.#model.addEventListener("change", () => {
			this.#changed();
			onmodel(this.model);
		});
		this.#file.addEventListener("change", () => {
			this.#add([...this.#file.files]);
			this.#file.value = "";
		});
		this.element.addEventListener("dragover", (event) => event.preventDefault());
		this.element.addEventListener("drop", (event) => {
			event.preventDefault();
			this.#add([...event.dataTransfer.files]);
		});
		this.#changed();
	}

	/** Name of the chosen model, "" if there is none. */
	get model() {
		return this.#model.value;
	}

	/** Description of the chosen model, as /api/tags has it. */
	get described() {
		return this.#models.find(({ name }) => name === this.model);
	}

	/** Value of the request's field `think`; undefined leaves it to the model. */
	get think() {
		const { value } = this.#think;
		if (this.#think.hidden || value === "") return undefined;
		return value === "true" || value === "false" ? value === "true" : value;
	}

	/** Offer `models`; keep the chosen one, else choose `preferred` if it is among them. */
	offer(models, preferred) {
		const chosen = this.model || preferred;
		this.#models = models;
		this.#model.replaceChildren(...models.map(({ name }) => h("option", { value: name }, shortName(name))));
		if (models.some(({ name }) => name === chosen)) this.#model.value = chosen;
		this.#changed();
	}

	set running(value) {
		this.#running = value;
		this.#changed();
	}

	set connected(value) {
		this.#connected = value;
		this.#changed();
	}

	fill(content, images = []) {
		this.#text.value = content;
		this.#images = [...images];
		this.#imagesChanged();
		this.focus();
	}

	/** Put the focus into the text, but where that would open a keyboard on the screen. */
	focus() {
		if (!TOUCH.matches) this.#text.focus();
	}

	#changed() {
		this.#text.style.height = "auto";
		// Not in the page yet, it has no height.
		if (this.#text.scrollHeight > 0) this.#text.style.height = `${this.#text.scrollHeight}px`;
		const can = (what) => this.described?.capabilities?.includes(what) ?? false;
		this.#think.hidden = !can("thinking");
		this.#attach.hidden = !can("vision");
		this.#model.hidden = this.#models.length === 0;
		const label = this.#running ? "Stop" : "Send";
		this.#send.replaceChildren(icon(label.toLowerCase()));
		this.#send.title = this.#running ? "Stop (Esc)" : "Send (Enter)";
		this.#send.setAttribute("aria-label", label);
		this.#send.classList.toggle("stopping", this.#running);
		const empty = this.#text.value.trim() === "" && this.#images.length === 0;
		this.#send.disabled = !this.#running && (empty || !this.#connected || this.model === "");
	}

	#imagesChanged() {
		this.#previews.hidden = this.#images.length === 0;
		this.#previews.replaceChildren(...this.#images.map((one, at) => this.#preview(one, at)));
		this.#changed();
	}

	#preview(image, at) {
		const remove = iconButton("close", `Remove image ${at + 1}`, () => {
			this.#images.splice(at, 1);
			this.#imagesChanged();
			this.focus();
		});
		return h("div.preview", h("img", { src: imageURL(image), alt: `Image ${at + 1}` }), remove);
	}

	async #add(files) {
		const images = files.filter(({ type }) => type.startsWith("image/"));
		if (images.length === 0) return;
		if (this.#attach.hidden) this.#problem.show(`${shortName(this.model) || "The model"} does not read images.`);
		else if (images.some(({ size }) => size > MAX_IMAGE)) this.#problem.show("Images of more than 20 MB cannot be attached.");
		else {
			this.#problem.show();
			this.#images.push(...(await Promise.all(images.map(toBase64))));
			this.#imagesChanged();
		}
	}

	#key(event) {
		// A key that ends the composition of a character does not send, nor does Enter on a touch screen.
		if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !TOUCH.matches) {
			event.preventDefault();
			if (!this.#running) this.element.requestSubmit(this.#send);
		}
	}

	#submit(event) {
		event.preventDefault();
		if (this.#running) this.onstop();
		else if (!this.#send.disabled) {
			const sent = { content: this.#text.value.trim(), images: this.#images };
			this.#problem.show();
			this.fill("");
			this.onsend(sent);
		}
	}
}
