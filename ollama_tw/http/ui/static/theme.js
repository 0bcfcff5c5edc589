// Colours of the page, set before it is painted: those of the system, or the ones that were chosen.
"use strict";

(() => {
	const stored = localStorage.getItem("ollama-theme");
	if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
})();
