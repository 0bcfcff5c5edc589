// Chat: a conversation with a model over one WebSocket.

import { Streams, getJSON } from "./api.js";
import { Composer } from "./composer.js";
import { announce, button, h, iconButton, scrollable } from "./dom.js";
import { shortName } from "./format.js";
import { Reply, toolResult, userMessage } from "./message.js";
import { chosenOptions, hasOptions, openOptions } from "./options.js";
import { phaseOf } from "./progress.js";

const STORED = "ollama-conversation";
const MODEL = "ollama-model";
const NEAR = 80;
const SENT = ["role", "content", "thinking", "images", "tool_calls", "tool_name"];
const IDEAS = ["Why is the sky blue?", "Write a haiku about rain.", "Explain recursion with a small example in Python."];

/** View of the chat in `section`. `onconnection(open)` is called when the connection is made or lost. */
export class Chat {
	#messages = [];
	#running = null;
	#retry = 500;
	#problem = null;
	#top = 0;
	#talk = h("div.talk");
	#empty = h("div.empty");
	#scroller = scrollable("div.scroller", "Conversation", this.#talk);
	#jump = h("div.jump", { hidden: true }, iconButton("down", "Scroll to the end", () => this.#toEnd(true)));
	#streams;
	#composer;
	#models = null;

	constructor(section, onconnection) {
		this.onconnection = onconnection;
		this.#streams = new Streams("chat", () => this.#connectionChanged());
		this.#composer = new Composer({
			onsend: (sent) => this.#send(sent),
			onstop: () => this.stop(),
			onmodel: (name) => {
				localStorage.setItem(MODEL, name);
				this.#showEmpty();
			},
			onsettings: () => openOptions(() => this.#showOptions()),
			onnew: () => this.#reset(),
		});
		const note = h("p.note", "Enter sends, Shift+Enter begins a new line, Esc stops. Models make mistakes.");
		section.append(this.#scroller, h("div.dock", this.#jump, this.#composer.element, note));
		this.#scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
		section.addEventListener("keydown", (event) => event.key === "Escape" && !event.defaultPrevented && this.stop());
		this.#restore();
		this.#showOptions();
		this.#connect();
	}

	async show() {
		this.#composer.focus();
		await this.refresh().catch(() => {});
	}

	/** Read the list of models again. */
	async refresh() {
		const { models } = await getJSON("tags");
		this.#models = models.filter(({ capabilities }) => capabilities === undefined || capabilities.includes("completion"));
		this.#composer.offer(this.#models, localStorage.getItem(MODEL));
		this.#showEmpty();
	}

	async #connect() {
		try {
			await this.#streams.connect();
			this.#retry = 500;
			this.#problem = null;
			await this.refresh();
			this.onconnection(this.#streams.open);
		} catch (error) {
			this.#problem = error;
			this.onconnection(false, error);
			this.#showEmpty();
			// Another key is needed, which comes with a new start of the page.
			if ([401, 403].includes(error.status)) return;
			this.#retry = Math.min(this.#retry * 2, 15000);
			setTimeout(() => this.#connect(), this.#retry);
		}
	}

	#connectionChanged() {
		const { open } = this.#streams;
		this.#composer.connected = open;
		this.onconnection(open);
		this.#showEmpty();
		if (!open) setTimeout(() => this.#connect(), this.#retry);
	}

	#send({ content, images }) {
		const message = { role: "user", content, ...(images.length > 0 && { images }) };
		this.#messages.push(message);
		this.#append(this.#element(message));
		this.#answer();
	}

	/** Have the model answer the conversation. */
	async #answer() {
		const model = this.#composer.model;
		const message = { role: "assistant", content: "", model };
		const reply = new Reply(message);
		reply.onrender = () => this.#follow();
		const controller = new AbortController();
		this.#running = controller;
		this.#composer.running = true;
		this.#append(reply.element);
		this.#toEnd(true);
		announce("The model is answering.");
		try {
			const request = this.#request(model);
			this.#messages.push(message);
			const take = (record) => {
				const phase = phaseOf(record);
				if (phase !== null) reply.phase(...phase);
				else reply.take(record);
			};
			const last = await this.#streams.stream(request, take, controller.signal);
			reply.take(last);
			reply.measure(last);
		} catch (error) {
			if (error.name !== "AbortError") message.failure = error.message;
		}
		this.#running = null;
		this.#composer.running = false;
		if (!this.#messages.includes(message)) {
			this.#showEmpty();
			return;
		}
		reply.finish([this.#againButton(message)]);
		this.#offerResults(message);
		this.#follow();
		this.#store();
		announce(message.failure ?? `Answer: ${message.content.slice(0, 400)}`);
	}

	#request(model) {
		const { system, body } = chosenOptions();
		const told = this.#messages.filter(({ failure, content }) => failure === undefined || content !== "");
		const messages = told.map((message) => Object.fromEntries(SENT.map((name) => [name, message[name]])));
		if (system !== "") messages.unshift({ role: "system", content: system });
		return { model, messages, think: this.#composer.think, progress: true, ...body };
	}

	stop() {
		this.#running?.abort();
	}

	#againButton(message) {
		return iconButton("again", "Answer again", () => {
			if (this.#running !== null) return;
			this.#cut(this.#messages.indexOf(message));
			this.#answer();
		});
	}

	/** Remove the messages from `at` on. */
	#cut(at) {
		this.#messages.splice(at);
		while (this.#talk.childElementCount > at) this.#talk.lastChild.remove();
		this.#store();
	}

	#edit(message) {
		if (this.#running !== null) return;
		const { content, images } = message;
		this.#cut(this.#messages.indexOf(message));
		this.#composer.fill(content, images);
		this.#showEmpty();
	}

	#element(message) {
		if (message.role === "user") return userMessage(message, () => this.#edit(message));
		if (message.role === "tool") return toolResult(message);
		const reply = new Reply(message);
		reply.finish([this.#againButton(message)]);
		return reply.element;
	}

	/** Below the calls of an answer, ask for the results of the tools. */
	#offerResults(message) {
		const calls = message.tool_calls ?? [];
		if (calls.length === 0) return;
		const fields = calls.map(({ function: { name } }) => {
			const area = h("textarea.field", { rows: "2", required: true, placeholder: `What ${name} returns`, "aria-label": `Result of ${name}` });
			return { name, area };
		});
		const submit = (event) => {
			event.preventDefault();
			if (this.#running !== null) return;
			form.remove();
			for (const { name, area } of fields) {
				const result = { role: "tool", tool_name: name, content: area.value };
				this.#messages.push(result);
				this.#append(toolResult(result));
			}
			this.#answer();
		};
		const form = h("form.results", { onsubmit: submit }, fields.map(({ area }) => area), button("Give the result to the model", null, "", { type: "submit" }));
		this.#talk.lastChild.append(form);
	}

	#reset() {
		this.stop();
		this.#cut(0);
		this.#showEmpty();
		this.#composer.focus();
	}

	#append(element) {
		this.#empty.remove();
		this.#talk.append(element);
	}

	/** Follow the text while its end is in view, and no longer when the user scrolls up. */
	#scrolled() {
		const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
		if (scrollHeight - scrollTop - clientHeight < NEAR) this.#jump.hidden = true;
		else if (scrollTop < this.#top) this.#jump.hidden = false;
		this.#top = scrollTop;
	}

	/** Keep the end in view if it was. */
	#follow() {
		if (this.#jump.hidden) this.#toEnd();
	}

	#toEnd(always = false) {
		if (always) this.#jump.hidden = true;
		this.#scroller.scrollTop = this.#scroller.scrollHeight;
	}

	#showOptions() {
		this.#composer.settingsButton.classList.toggle("set", hasOptions());
	}

	#showEmpty() {
		if (this.#messages.length > 0 || this.#running !== null) return;
		const described = this.#composer.described;
		let content;
		if (!this.#streams.open) {
			const waits = this.#problem === null || this.#problem.status === 0;
			const text = this.#problem?.message ?? "One moment.";
			content = [h("h2", this.#problem === null ? "Connecting" : "Not connected"), h("p", text, waits && this.#problem !== null && " This page connects again by itself.")];
		} else if (this.#models?.length === 0) {
			content = [h("h2", "No model yet"), h("p", "Install one first; it then answers here."), h("a.button.primary", { href: "#models" }, "Install a model")];
		} else {
			const { parameter_size: size, quantization_level: type, context_length: context } = described?.details ?? {};
			const facts = [shortName(described?.name ?? ""), size && `${size} parameters`, type, context && `trained on ${context.toLocaleString("en")} tokens`];
			content = [
				h("h2", "What is on your mind?"),
				h("p", facts.filter(Boolean).join(" · ")),
				h("div.ideas", IDEAS.map((idea) => h("button.idea", { type: "button", onclick: () => this.#composer.fill(idea) }, idea))),
			];
		}
		this.#empty.replaceChildren(h("img", { src: new URL("icon.svg", import.meta.url).href, alt: "", width: "44", height: "44" }), ...content);
		this.#talk.replaceChildren(this.#empty);
	}

	#store() {
		try {
			sessionStorage.setItem(STORED, JSON.stringify(this.#messages));
		} catch {
			// Too large for the browser: it is lost when the page is loaded again.
			sessionStorage.removeItem(STORED);
		}
	}

	#restore() {
		try {
			this.#messages = JSON.parse(sessionStorage.getItem(STORED) ?? "[]");
		} catch {
			this.#messages = [];
		}
		for (const message of this.#messages) this.#append(this.#element(message));
		this.#toEnd(true);
		this.#showEmpty();
	}
}
