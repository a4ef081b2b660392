// The overview as it changes: figures and parts come from the portal as they are shown, and
// the chart gets new points.
(() => {
	"use strict";
	const figure = document.getElementById("chart");
	if (!figure) return;
	const data = JSON.parse(figure.dataset.chart);
	const names = ["accepted", "delivered", "failed", "waiting"];
	const plot = figure.querySelector(".plot");
	const count = new Intl.NumberFormat("en");
	let chart = null;

	// The colours are those of the keys above the chart, in light and dark.
	const colour = (name) => getComputedStyle(figure.querySelector(`.key.${name}`), "::before").backgroundColor;
	const values = () => [data.times, data.waiting, data.failed, data.delivered, data.accepted];
	// A point between two gaps has no line that would show it.
	const alone = (u, i) => [...u.data[i].keys()].filter((n) => u.data[i][n] != null && u.data[i][n - 1] == null && u.data[i][n + 1] == null);
	const top = (u, min, max) => [0, Math.max(5, max * 1.1)];

	function draw() {
		const style = getComputedStyle(figure);
		const text = getComputedStyle(figure.querySelector("figcaption")).color, line = style.getPropertyValue("border-top-color");
		const axis = { stroke: text, font: "12px " + style.fontFamily, ticks: { show: false }, grid: { stroke: line, width: 1 } };
		const number = (u, list) => list.map((v) => (Number.isInteger(v) ? count.format(v) : ""));
		const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
		const series = (name, more) => ({ label: name, stroke: colour(name), width: 1.5, points: { show: true, size: 4, filter: alone }, ...more });
		if (chart) chart.destroy();
		plot.replaceChildren();
		chart = new uPlot({
			width: plot.clientWidth, height: plot.clientHeight, legend: { show: false }, padding: [8, 0, 0, 0],
			cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
			scales: { y: { range: top }, waiting: { range: (u, min, max) => [0, Math.max(5, max * 2)] } },
			axes: [
				{ ...axis, grid: { show: false }, space: 70, size: 28, values: (u, list) => list.map((t) => time.format(t * 1000)) },
				{ ...axis, size: 44, values: number },
				{ ...axis, scale: "waiting", side: 1, size: 36, space: 60, grid: { show: false }, values: number },
			],
			series: [
				{},
				series("waiting", { scale: "waiting", width: 0, points: { show: false }, fill: colour("waiting") }),
				series("failed", {}), series("delivered", {}), series("accepted", {}),
			],
			hooks: { setCursor: [tip] },
		}, values(), plot);
	}

	// The keys show the values of the minute under the pointer.
	function tip(u) {
		const i = u.cursor.idx;
		for (const name of names) {
			const key = figure.querySelector(`.key.${name}`);
			const v = i == null ? null : data[name][i];
			if (v == null) delete key.dataset.value;
			else key.dataset.value = count.format(v);
		}
	}

	function spark(name) {
		const path = document.querySelector(`[data-spark="${name}"]`);
		const list = data[name];
		const most = Math.max(5, ...list.filter((v) => v != null));
		let d = "", pen = "M";
		list.forEach((v, i) => {
			if (v == null) { pen = "M"; return; }
			d += `${pen}${(i * 100 / Math.max(1, list.length - 1)).toFixed(1)} ${(0.5 + 27 * (1 - v / most)).toFixed(1)}`;
			pen = "L";
		});
		path.setAttribute("d", d);
	}

	// A point replaces that of its minute, or is a new one at the right end.
	function add(points) {
		if (data.step !== 60) return;
		const length = data.times.length;
		for (const p of points) {
			for (let t = data.times.at(-1) + 60; t <= p.time; t += 60) {
				data.times.push(t);
				for (const name of names) data[name].push(null);
				if (data.times.length > 2 * length) return location.reload(); // the clock was set
			}
			const i = data.times.indexOf(p.time);
			if (i >= 0) for (const name of names) data[name][i] = p[name];
		}
		const old = data.times.length - length;
		data.times.splice(0, old);
		for (const name of names) {
			data[name].splice(0, old);
			spark(name);
		}
		if (chart) chart.setData(values());
	}

	const shown = new Map();
	function show(event) {
		for (const [id, html] of Object.entries(event.parts)) {
			if (shown.get(id) === html) continue;
			shown.set(id, html);
			const part = document.querySelector(`[data-live="${id}"]`);
			if (!part || part.contains(document.activeElement)) continue;
			part.innerHTML = html;
			document.dispatchEvent(new CustomEvent("htmx:load", { detail: { elt: part } }));
		}
		add(event.points || []);
	}

	// The stream of events. It is closed while nobody looks, and opened again when it ends.
	const label = document.querySelector("[data-live-state]");
	// What is not known to be so any more does not look as if it were.
	const say = (text, stale) => {
		if (label.textContent !== text) label.textContent = text;
		document.body.toggleAttribute("data-stale", stale);
	};
	let stream = null;
	async function follow() {
		const own = stream = new AbortController();
		let text = "";
		try {
			const response = await fetch(figure.dataset.events, { signal: own.signal, cache: "no-store" });
			if (response.status === 204) return location.reload(); // the session has ended
			if (response.status === 429 || response.status === 403) {
				say("Not live: too many overviews are open", true);
				return;
			}
			if (!response.ok) throw new Error();
			say("Live", false);
			const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
			for (;;) {
				const { value, done } = await reader.read();
				if (done) break;
				text += value;
				const events = text.split("\n\n");
				text = events.pop();
				for (const e of events) if (e.startsWith("data: ")) show(JSON.parse(e.slice(6)));
			}
		} catch { /* it is tried again */ }
		if (own.signal.aborted) return;
		say("Not live: the main server does not answer. What you see is from before. Trying again.", true);
		setTimeout(() => { if (stream === own && !document.hidden) follow(); }, 2000);
	}
	document.addEventListener("visibilitychange", () => {
		if (document.hidden) {
			if (stream) stream.abort();
			stream = null;
		} else if (!stream) follow();
	});

	draw();
	new ResizeObserver(() => {
		if (chart && chart.width !== plot.clientWidth) chart.setSize({ width: plot.clientWidth, height: plot.clientHeight });
	}).observe(plot);
	matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
	follow();
})();
