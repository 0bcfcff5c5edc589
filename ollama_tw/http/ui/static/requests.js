// Requests that run and wait, each with a button that cancels it.

import { getJSON, request } from "./api.js";
import { Problem, announce, button, h, scrollable, visible } from "./dom.js";
import { count, counted, rate, seconds, shortName } from "./format.js";

const PHASES = { queued: "Waiting", loading: "Loading the model", prefill: "Reading the prompt", decode: "Answering" };

/** Card with the list of /api/requests. */
export class Requests {
	#body = h("tbody");
	#table = h("table", h("thead", h("tr", ["Model", "Client", "State", "Prompt", "Output", "Age", ""].map((name) => h("th", { scope: "col" }, name || h("span.visually-hidden", "Actions"))))), this.#body);
	#note = h("p.nothing", "Nothing runs at the moment.");
	#problem = new Problem();
	#rows = new Map();

	constructor() {
		const scroll = scrollable("div.table-scroll", "Table of the requests", this.#table);
		this.element = h("section.card.requests", { "aria-label": "Requests" }, h("h2", "Requests"), this.#problem.element, this.#note, scroll);
		this.#table.hidden = true;
	}

	/** Read the list again. */
	async refresh() {
		try {
			const { requests } = await getJSON("requests");
			this.#problem.show();
			this.#show(requests);
		} catch (error) {
			this.#problem.show(error.message);
		}
	}

	#show(requests) {
		this.#note.hidden = requests.length > 0;
		this.#table.hidden = requests.length === 0;
		const rows = new Map(requests.map((one) => [one.id, this.#row(one)]));
		// Rows stay the same elements: a button that is about to be pressed does not go away.
		const wanted = [...rows.values()];
		if (wanted.length !== this.#body.children.length || wanted.some((row, at) => row !== this.#body.children[at])) this.#body.replaceChildren(...wanted);
		this.#rows = rows;
	}

	#row(one) {
		const row = this.#rows.get(one.id) ?? this.#newRow(one);
		const cells = [...row.children];
		const phase = PHASES[one.phase] ?? one.phase;
		const state = one.position ? `${phase}, number ${count(one.position)}` : phase;
		const texts = [
			visible(shortName(one.model)),
			visible(one.client),
			state,
			one.prompt_tokens ? (one.prompt_done < one.prompt_tokens ? `${count(one.prompt_done)} of ${count(one.prompt_tokens)}` : counted(one.prompt_tokens, "token")) : "",
			one.tokens ? [counted(one.tokens, "token"), one.tokens_per_second && `${rate(one.tokens_per_second)}/s`].filter(Boolean).join(" · ") : "",
			seconds(one.age),
		];
		texts.forEach((text, at) => cells[at].textContent !== text && (cells[at].textContent = text));
		return row;
	}

	#newRow(one) {
		const cancel = button("Cancel", null, ".quiet", { "aria-label": `Cancel the request to ${visible(shortName(one.model))}` });
		cancel.addEventListener("click", async () => {
			cancel.disabled = true;
			cancel.textContent = "Cancelling";
			try {
				await request("DELETE", `requests/${encodeURIComponent(one.id)}`);
				announce("The request was cancelled.");
			} catch (error) {
				// A request that has ended meanwhile needs not be cancelled any more.
				if (error.status !== 404) this.#problem.show(error.message);
			}
			await this.refresh();
		});
		const names = ["Model", "Client", "State", "Prompt", "Output", "Age"];
		return h("tr", names.map((name) => h("td", { "data-name": name })), h("td.end", cancel));
	}
}
