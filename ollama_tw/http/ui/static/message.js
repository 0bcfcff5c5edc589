// One message of a conversation: its data, as the API has it, and its element.

import { Problem, copyButton, h, icon, iconButton, scrollable, visible } from "./dom.js";
import { count, counted, fromNanoseconds, rate, seconds, shortName } from "./format.js";
import { Markdown } from "./markdown.js";

/** Share of the time that rendering may take: a long text is rendered less often. */
const RENDER_SHARE = 8;

/** Return the URL of an image, whose content is in Base64, for as long as the page lives. */
export function imageURL(base64) {
	const content = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
	return URL.createObjectURL(new Blob([content]));
}

/** Return the element of a message of the user. `onedit` puts it back into the composer. */
export function userMessage(message, onedit) {
	const images = (message.images ?? []).map((one, at) => h("img", { src: imageURL(one), alt: `Attached image ${at + 1}` }));
	return h("article.message.user", { "aria-label": "Your message" },
		images.length > 0 && h("div.images", images),
		message.content !== "" && h("div.bubble", { dir: "auto" }, visible(message.content)),
		h("div.actions",
			copyButton(() => message.content, "Copy the message"),
			iconButton("edit", "Edit and send again", onedit),
		),
	);
}

/** Return the element of a tool's result. */
export function toolResult(message) {
	return h("details.fold.tool-result",
		h("summary", icon("tool"), "Result of ", h("code", visible(message.tool_name ?? "the tool"))),
		h("pre.plain", { dir: "auto" }, visible(message.content)),
	);
}

function toolCall({ function: { name, arguments: given } }) {
	return h("div.tool-call",
		h("div.tool-name", icon("tool"), h("span", "Calls "), h("code", visible(name))),
		scrollable("pre.plain", `Arguments of ${visible(name)}`, visible(JSON.stringify(given, null, 2))),
	);
}

/** Reply of a model while it arrives, and afterwards. */
export class Reply {
	#thinking = h("div.thinking-text", { dir: "auto" });
	#fold = h("details.fold.thinking", { hidden: true }, h("summary"), this.#thinking);
	#content = h("div.prose", { dir: "auto" });
	#calls = h("div.calls");
	#status = h("p.phase", h("span.pulse"), h("span"), h("progress", { "aria-label": "Progress" }));
	#failure = new Problem();
	#footer = h("div.footer");
	#markdown = new Markdown(this.#content);
	#scheduled = false;
	#cost = 0;
	#began = performance.now();
	#firstPiece = null;
	#pieces = 0;

	constructor(message) {
		this.message = message;
		const label = `Answer of ${message.model ?? "the model"}`;
		const body = [this.#fold, this.#content, this.#calls, this.#status, this.#failure.element, this.#footer];
		this.element = h("article.message.assistant.running", { "aria-label": label, "aria-busy": "true" }, body);
		this.phase("Sent");
	}

	/** Show what the server does before the first piece of the output. */
	phase(text, share = null) {
		const [, words, bar] = this.#status.children;
		words.textContent = text;
		bar.hidden = share === null;
		bar.value = share ?? 0;
	}

	take({ message: part = {} }) {
		const { message } = this;
		if (part.thinking || part.content || part.tool_calls) {
			this.#firstPiece ??= performance.now();
			this.#pieces += 1;
		}
		if (!part.thinking) this.#endThinking();
		else message.thinking = (message.thinking ?? "") + part.thinking;
		message.content += part.content ?? "";
		if (part.tool_calls) message.tool_calls = [...(message.tool_calls ?? []), ...part.tool_calls];
		this.#schedule();
	}

	#endThinking() {
		if (this.message.thinking) this.message.thought ??= (performance.now() - this.#firstPiece) / 1000;
	}

	#schedule() {
		if (this.#scheduled) return;
		this.#scheduled = true;
		const render = () => {
			if (!this.element.classList.contains("running")) return;
			this.#scheduled = false;
			this.#render();
			this.onrender?.();
		};
		setTimeout(() => requestAnimationFrame(render), this.#cost * RENDER_SHARE);
	}

	#render(done = false) {
		const began = performance.now();
		const { thinking, content, tool_calls: calls } = this.message;
		if (thinking) {
			const { thought } = this.message;
			this.#fold.hidden = false;
			this.#fold.classList.toggle("pulsing", thought === undefined);
			this.#fold.firstChild.textContent = thought === undefined ? "Thinking" : `Thought for ${seconds(thought)}`;
			this.#thinking.textContent = visible(thinking);
		}
		this.#markdown.show(content);
		if (calls && this.#calls.childElementCount !== calls.length) this.#calls.replaceChildren(...calls.map(toolCall));
		this.#status.hidden = done || this.#firstPiece !== null;
		if (!done && this.#firstPiece !== null) this.#footer.textContent = this.#liveFigures();
		this.#cost = performance.now() - began;
	}

	#liveFigures() {
		const elapsed = (performance.now() - this.#firstPiece) / 1000;
		return elapsed > 0.5 ? `${rate((this.#pieces - 1) / elapsed)} tokens/s` : "";
	}

	/** Show the reply as complete. `actions` are buttons. */
	finish(actions) {
		this.#endThinking();
		this.#render(true);
		this.element.classList.remove("running");
		this.element.removeAttribute("aria-busy");
		const { failure, content, figures } = this.message;
		this.#failure.show(failure);
		const copy = content !== "" && copyButton(() => content, "Copy the answer");
		this.#footer.replaceChildren(h("div.actions", copy, actions), h("span.figures", figures));
	}

	measure(record) {
		const output = fromNanoseconds(record.eval_duration);
		const parts = [shortName(this.message.model)];
		if (record.done_reason === "cancelled") parts.push("Stopped");
		if (record.done_reason === "length") parts.push("Cut at the limit of tokens");
		if (record.eval_count) {
			parts.push(counted(record.eval_count, "token"));
			if (output > 0) parts.push(`${rate(record.eval_count / output)} tokens/s`);
		}
		if (this.#firstPiece !== null) parts.push(`first after ${seconds((this.#firstPiece - this.#began) / 1000)}`);
		if (record.prompt_eval_count) {
			const cached = record.prompt_cached_count ? ` (${count(record.prompt_cached_count)} cached)` : "";
			parts.push(`prompt ${count(record.prompt_eval_count)}${cached}`);
		}
		this.message.figures = parts.join(" · ");
	}
}
