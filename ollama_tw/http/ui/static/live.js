// Live figures: throughput, slots, queue, first tokens, memory and requests.

import { getJSON, request } from "./api.js";
import { Chart } from "./chart.js";
import { Problem, h } from "./dom.js";
import { bytes, count, counted, rate, seconds } from "./format.js";
import { Memory } from "./memory.js";
import { Reading, quantile, rateOf } from "./metrics.js";
import { Requests } from "./requests.js";

const INTERVAL = 1000;
const WINDOW = 30;

const whole = (value) => count(value);

/** View of the server's figures in `section`. Nothing is asked of the server while it is not shown. */
export class Live {
	#timer = 0;
	#round = 0;
	#readings = [];
	#throughput = new Chart("Throughput", ["tokens/s"], rate, 10);
	#slots = new Chart("Slots", ["busy"], whole, 1);
	#queue = new Chart("Queue", ["waiting"], whole, 1);
	#first = new Chart("First token", ["median", "95 %"], seconds, 0.1);
	#bytes = new Chart("Memory", ["of the models"], bytes, 1e9);
	#cache = new Chart("Prompt cache", ["saved states"], bytes, 1e8);
	#memory = new Memory();
	#requests = new Requests();
	#problem = new Problem();
	#charts = h("div.charts", [this.#throughput, this.#slots, this.#queue, this.#first, this.#bytes, this.#cache].map(({ element }) => element));

	constructor(section) {
		section.append(
			h("div.sheet.wide",
				h("div.sheet-head", h("div", h("h1", "Live"), h("p.summary", "The last minute, a point a second."))),
				this.#problem.element,
				this.#charts,
				this.#memory.element,
				this.#requests.element),
		);
	}

	show() {
		const round = (this.#round += 1);
		this.#tick(round);
	}

	hide() {
		this.#round += 1;
		clearTimeout(this.#timer);
	}

	async #tick(round) {
		const began = performance.now();
		if (!document.hidden) await this.#read(round);
		if (round === this.#round) this.#timer = setTimeout(() => this.#tick(round), Math.max(100, INTERVAL - (performance.now() - began)));
	}

	async #read(round) {
		const failed = [];
		const attempt = (promise) => promise.catch((error) => (failed.push(error.message), null));
		const [metrics, loaded] = await Promise.all([
			attempt(request("GET", "/metrics").then((response) => response.text())),
			attempt(getJSON("ps")),
			this.#requests.refresh(),
		]);
		if (round !== this.#round) return;
		this.#problem.show(failed[0]);
		const now = metrics === null ? null : new Reading(metrics, performance.now() / 1000);
		if (now !== null) this.#draw(now);
		if (loaded !== null) this.#memory.show(loaded.models, now?.value("ollama_prompt_cache_bytes") ?? 0);
	}

	#draw(now) {
		const before = this.#readings.at(-1);
		this.#readings.push(now);
		while (now.time - this.#readings[0].time > WINDOW) this.#readings.shift();
		const [oldest] = this.#readings;

		// Each piece of output is the first of its request, or follows another after a gap.
		const pieces = before ? rateOf("ollama_first_token_seconds_count", before, now) + rateOf("ollama_token_gap_seconds_count", before, now) : 0;
		this.#throughput.add([pieces], `${rate(pieces)} tokens/s`, `${counted(now.value("ollama_output_tokens_total"), "token")} since the start`);

		const [busy, slots] = [now.value("ollama_slots_busy"), now.value("ollama_slots")];
		this.#slots.add([busy], `${count(busy)} of ${count(slots)} busy`, counted(now.value("ollama_loaded_models"), "model") + " in memory", slots || 1);

		const waiting = now.value("ollama_queue_length");
		const waited = quantile("ollama_queue_wait_seconds", 0.5, oldest, now);
		this.#queue.add([waiting], `${count(waiting)} waiting`, waited === null ? "" : `median wait ${seconds(waited)}`);

		const median = quantile("ollama_first_token_seconds", 0.5, oldest, now);
		const most = quantile("ollama_first_token_seconds", 0.95, oldest, now);
		this.#first.add([median, most], median === null ? "–" : seconds(median), median === null ? "No answer began in the last half minute." : `95 % within ${seconds(most)}`);

		const used = now.value("ollama_loaded_bytes");
		const gpu = now.value("ollama_loaded_gpu_bytes");
		this.#bytes.add([used], bytes(used), gpu > 0 ? `${bytes(gpu)} on GPUs` : used > 0 ? "in main memory" : "");

		const saved = now.value("ollama_prompt_cache_bytes");
		const prompt = now.value("ollama_prompt_tokens_total");
		const found = now.value("ollama_prompt_cached_tokens_total");
		this.#cache.add([saved], bytes(saved), prompt > 0 ? `${count((100 * found) / prompt)} % of the prompt tokens reused` : "");
	}
}
