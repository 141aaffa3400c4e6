"use strict";

/* The list of jobs: follows the service, and offers what can be done with each. */

const WORDS = { waiting: "in the queue", running: "running", done: "done", failed: "failed", cancelled: "cancelled" };

/** Return a time as people say it. */
function inTime(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Follow the jobs of the service; all pages that are open see the same. */
function followJobs(tasks, again) {
  const jobs = new Map();
  const about = new Map(tasks.map((task) => [task.command, task]));
  about.again = again;
  const connect = () => listen(new EventSource("/api/events"), jobs, about, () => setTimeout(connect, 3000));
  connect();
}

/** Show what a stream of events says; one that the browser gives up is begun again. */
function listen(source, jobs, about, again) {
  const offline = find("offline");
  source.addEventListener("open", () => (offline.hidden = true));
  source.addEventListener("error", () => {
    offline.hidden = false;
    if (source.readyState === EventSource.CLOSED) again();
  });
  source.addEventListener("jobs", ({ data }) => {
    jobs.clear();
    for (const job of JSON.parse(data)) jobs.set(job.id, job);
    showJobs(jobs, about);
    document.body.setAttribute("data-ready", "");
  });
  source.addEventListener("job", ({ data }) => {
    const job = JSON.parse(data);
    const before = jobs.get(job.id);
    jobs.set(job.id, job);
    if (before?.state !== job.state) say(`${job.name} is ${WORDS[job.state]}${job.message ? `: ${job.message}` : ""}`);
    showJobs(jobs, about);
  });
  source.addEventListener("gone", ({ data }) => {
    jobs.delete(JSON.parse(data).id);
    showJobs(jobs, about);
  });
}

/** Show all jobs, newest first; what did not change stays, so that the focus does too. */
function showJobs(jobs, about) {
  const list = find("list");
  const waiting = [...jobs.values()].filter(({ state }) => state === "waiting").sort((a, b) => a.queued - b.queued);
  const sorted = [...jobs.values()].sort((a, b) => b.added - a.added || (a.id < b.id ? 1 : -1));
  const there = new Map([...list.children].map((item) => [item.id, item]));
  const items = sorted.map((job) => {
    const shape = JSON.stringify([job.state, job.message, job.files, job.warnings, job.name]);
    let item = there.get(`job-${job.id}`);
    if (item?.dataset.shape !== shape) {
      const focused = item?.contains(document.activeElement) && document.activeElement.dataset.act;
      const fresh = makeItem(job, about.get(job.command), about.again);
      fresh.dataset.shape = shape;
      item?.replaceWith(fresh);
      item = fresh;
      if (focused) requestAnimationFrame(() => (item.querySelector(`[data-act=${focused}]`) ?? item.querySelector("[data-act]"))?.focus());
    }
    showProgress(item, job, waiting.indexOf(job));
    return item;
  });
  const kept = new Set(items);
  for (const item of there.values()) if (!kept.has(item)) item.remove();
  items.forEach((item, i) => list.children[i] !== item && list.insertBefore(item, list.children[i] ?? null));
  find("empty").hidden = items.length > 0;
}

function makeItem(job, task, again) {
  const files = Object.entries(job.inputs).flatMap(([role, names]) => names.map((name) => (role === task?.roles[0].name ? name : `${role} ${name}`)));
  const options = Object.entries(job.options).map(([name, value]) => `${asLabel(name).toLowerCase()}${value === true ? "" : ` ${value}`}`);
  const facts = [
    task?.about ?? job.command,
    files.length > 3 ? `${files.length} files` : files.join(", "),
    options.join(", "),
    new Date(1000 * job.added).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }),
    job.state === "done" ? `took ${inTime(job.seconds)}` : "",
  ];
  const picture = job.files.find(({ name, bytes }) => name.endsWith(".png") && bytes < 4e6);
  const parts = [
    make("div", { class: "top" }, make("h3", {}, job.name), make("span", { class: `state ${job.state}` }, WORDS[job.state])),
    ...(picture ? [make("img", { class: "thumb", src: linkTo(job, picture.name), alt: "", loading: "lazy" })] : []),
    make("p", { class: "note" }, facts.filter(Boolean).join(" · ")),
  ];
  if (job.state === "running" || job.state === "waiting") {
    parts.push(make("div", { class: "running-bar" }, make("progress", { "aria-label": `Progress of ${job.name}` }), make("span", { class: "note how" })));
  }
  if (job.message) parts.push(make("p", { class: "problem" }, asSentence(inLabels(job.message, task))));
  if (job.warnings.length) parts.push(make("ul", { class: "warnings", "aria-label": "Warnings" }, ...job.warnings.map((text) => make("li", {}, text))));
  parts.push(make("div", { class: "actions" }, ...actionsOf(job, again)));
  if (job.files.length) {
    const links = job.files.slice(0, 100).map(({ name, bytes }) => make("li", {}, make("a", { href: linkTo(job, name), target: "_blank" }, name), ` ${inBytes(bytes)}`));
    parts.push(make("details", {}, make("summary", {}, "Files"), make("ul", { class: "files" }, ...links)));
  }
  return make("li", { class: "job", id: `job-${job.id}` }, ...parts);
}

function linkTo(job, name) {
  return `/jobs/${job.id}/result/${name.split("/").map(encodeURIComponent).join("/")}`;
}

/** Return a message with the labels of this page in place of options of the command line. */
function inLabels(text, task) {
  return (task?.choices ?? []).reduce((found, { flag, name }) => found.replaceAll(new RegExp(`${flag}(?![-\\w])`, "g"), `“${asLabel(name)}”`), text);
}

function actionsOf(job, again) {
  const found = [];
  if (job.page) found.push(make("a", { class: "button primary", href: linkTo(job, job.page), target: "_blank", "data-act": "open", "aria-label": `Open ${job.name}` }, "Open"));
  const main = job.files.find(({ name }) => name === job.out);
  if (main) found.push(make("a", { class: "button", href: linkTo(job, main.name), download: "", "data-act": "main" }, `${main.name} (${inBytes(main.bytes)})`));
  if (job.files.length) found.push(make("a", { class: "button", href: `/jobs/${job.id}/all.zip`, download: "", "data-act": "zip" }, `All ${job.files.length} files (zip)`));
  if (job.state === "waiting" || job.state === "running") found.push(actionButton(job, "Cancel", "cancel"));
  else {
    if (job.state !== "done") found.push(actionButton(job, job.state === "failed" ? "Try again" : "Resume", "resume"));
    const change = make("button", { type: "button", "data-act": "change", "aria-label": `Change ${job.name}, as a new job` }, "Change");
    change.addEventListener("click", () => again(job));
    found.push(change);
    found.push(actionButton(job, "Delete", "delete"));
  }
  return found;
}

function actionButton(job, text, act) {
  const button = make("button", { type: "button", "data-act": act, "aria-label": `${text} ${job.name}` }, text);
  button.addEventListener("click", async () => {
    if (act === "delete" && !(await isSure(`${job.name} and all its files will be gone, for everybody.`))) return;
    button.disabled = true;
    try {
      if (act === "delete") await ask(`/api/jobs/${job.id}`, { method: "DELETE" });
      else await ask(`/api/jobs/${job.id}/${act}`, { method: "POST" });
      if (act === "delete") find("jobs").focus();
    } catch (error) {
      const item = find(`job-${job.id}`);
      const problem = item?.querySelector(".problem") ?? item?.insertBefore(make("p", { class: "problem", role: "alert" }), item.lastChild);
      if (problem) complain(problem, error.message);
    } finally {
      button.disabled = false;
    }
  });
  return button;
}

/** Ask in a dialog; returns whether the answer is yes. */
function isSure(text) {
  const dialog = find("sure");
  find("sure-text").textContent = text;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

function showProgress(item, job, place) {
  const [bar, how] = [item.querySelector("progress"), item.querySelector(".how")];
  if (!bar) return;
  if (job.state === "running" && job.share !== null) bar.value = job.share;
  else bar.removeAttribute("value");
  bar.hidden = job.state === "waiting";
  if (job.state === "waiting") {
    how.textContent = place ? `number ${place + 1} in the queue` : "next in the queue";
    return;
  }
  const left = job.share === 1 ? ", nearly done" : job.left_s === null ? "" : `, about ${inTime(job.left_s)} left for this step`;
  how.textContent = job.share === null ? `starting on ${job.device}` : `${job.stage}, ${Math.floor(100 * job.share)} %${left}`;
}
