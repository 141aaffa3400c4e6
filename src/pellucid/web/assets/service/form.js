"use strict";

/* The form for a new job: command, files, options; files are sent when it is started. */

/** Return bytes as people read them. */
function inBytes(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let at = 0;
  for (; bytes >= 1000 && at < units.length - 1; at++) bytes /= 1000;
  return `${at ? bytes.toPrecision(3) : bytes} ${units[at]}`;
}

/** Return a name of an option as a label. */
function asLabel(name) {
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

/** Return the answer of the service, or throw its sentence. */
async function ask(path, init = {}) {
  const answer = await fetch(path, init);
  if (answer.status === 204) return {};
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error ?? `the service answered ${answer.status}; try again`);
  return found;
}

/** Return a sentence with a capital, unless it begins with the name of a file. */
function asSentence(text) {
  return /^[a-z]+ /.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
}

/** Show a problem, or hide that of before. */
function complain(element, text) {
  element.hidden = !text;
  element.textContent = asSentence(text);
}

/** Make the form of all that is offered. */
function makeForm(offer) {
  const state = { task: offer.tasks[0], files: {}, offer, busy: false };
  const commands = offer.tasks.map((task, i) => {
    const input = make("input", { type: "radio", name: "command", value: task.command, ...(i ? {} : { checked: "" }) });
    input.addEventListener("change", () => {
      state.task = task;
      state.files = {};
      showTask(state);
    });
    input.id = `command-${task.command}`;
    return make("label", {}, input, make("span", {}, task.about));
  });
  find("commands").append(...commands);
  showTask(state);
  const form = find("form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!state.busy) submit(state);
  });
  // A file that misses the fields is meant for the first one; nowhere does the browser open it.
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
  form.addEventListener("drop", (event) => addFiles(state, state.task.roles[0], event.dataTransfer.files));
  return (job) => fillAgain(state, job);
}

/** Fill the form with what a job was given, so that it can be changed. */
function fillAgain(state, job) {
  find(`command-${job.command}`).click();
  for (const role of state.task.roles) {
    for (const name of job.inputs[role.name] ?? []) keep(state, role, { path: name, job: job.id, name, note: "sent before" });
  }
  for (const choice of state.task.choices) {
    const [input, value] = [find(`option-${choice.name}`), job.options[choice.name]];
    if (choice.kind === "yes") input.checked = value === true;
    else if (value !== undefined) input.value = value;
  }
  find("name").value = Object.values(job.inputs).flat().includes(job.name) ? "" : job.name;
  find("more").open = true;
  find("form").scrollIntoView();
  find("submit").focus({ preventScroll: true });
  say(`The form holds what ${job.name} was given`);
}

/** Show fields for the files and options of the command. */
function showTask(state) {
  find("roles").replaceChildren(...state.task.roles.map((role) => roleField(state, role)));
  const fields = state.task.choices.map(optionField);
  find("first").replaceChildren(...fields.slice(0, state.task.num_first));
  find("options").replaceChildren(...fields.slice(state.task.num_first));
  complain(find("problem"), "");
}

function roleField(state, role) {
  const isNeeded = role.flag === "";
  const input = make("input", {
    type: "file", class: "hidden", accept: role.suffixes.join(","), id: `file-${role.name}`,
    "aria-describedby": `help-${role.name}`, ...(role.many ? { multiple: "" } : {}),
  });
  input.addEventListener("change", () => {
    addFiles(state, role, input.files);
    input.value = "";
  });
  const label = make("label", { for: input.id, class: "pick" }, role.many ? "Choose files" : "Choose a file");
  const drop = make("div", { class: isNeeded ? "drop" : "drop small" }, input, label, make("span", { class: "or" }, "or drop here"));
  if (state.offer.shared) {
    const browse = make("button", { type: "button", "aria-label": `${role.label} from the shared folder` }, "Shared folder");
    browse.addEventListener("click", () => openFolder((path, kind) => addPath(state, role, path, kind), state.task.out_many && isNeeded));
    drop.append(browse);
  }
  for (const [kind, on] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
    drop.addEventListener(kind, () => drop.classList.toggle("over", on));
  }
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    addFiles(state, role, event.dataTransfer.files);
  });
  const title = make("h3", { id: `role-${role.name}` }, role.label, make("span", { class: "note" }, isNeeded ? " needed" : " optional"));
  const help = make("p", { class: "note", id: `help-${role.name}` }, role.help);
  const chosen = make("ul", { class: "chosen", id: `chosen-${role.name}` });
  return make("section", { class: "role", role: "group", "aria-labelledby": `role-${role.name}` }, title, help, drop, chosen);
}

function optionField(choice) {
  const id = `option-${choice.name}`;
  const help = make("span", { class: "note", id: `${id}-help` }, choice.help.replaceAll("`", ""));
  const common = { id, name: choice.name, "aria-describedby": `${id}-help` };
  if (choice.kind === "yes") {
    const box = make("input", { type: "checkbox", ...common });
    return make("div", { class: "option" }, make("label", { class: "check" }, box, asLabel(choice.name)), help);
  }
  let input;
  if (choice.known.length) {
    input = make("select", common);
    const given = choice.known.map((name) => [name, name.split("/").at(-1)]);
    offer(input, choice.default === null ? [["", "default"], ...given] : given);
    if (choice.default !== null) input.value = choice.default;
  } else {
    const numbers = { type: "number", step: choice.kind === "whole" ? "1" : "any" };
    const limits = { ...(choice.low === null ? {} : { min: choice.low }), ...(choice.high === null ? {} : { max: choice.high }) };
    const kind = choice.kind === "text" ? { type: "text", maxlength: 300 } : { ...numbers, ...limits };
    input = make("input", { ...common, ...kind, placeholder: choice.default ?? "default", autocomplete: "off" });
  }
  return make("div", { class: "option" }, make("label", { for: id }, asLabel(choice.name)), input, help);
}

function addFiles(state, role, files) {
  complain(find("problem"), "");
  for (const file of files) {
    if (file.size > state.offer.limits.upload_bytes) {
      const most = inBytes(state.offer.limits.upload_bytes);
      complain(find("problem"), `${file.name} has ${inBytes(file.size)}, more than the ${most} that are taken; copy it into the shared folder`);
    } else {
      keep(state, role, { file, name: file.name, note: inBytes(file.size) });
    }
  }
}

function addPath(state, role, path, kind) {
  keep(state, role, { path, name: path, note: kind === "file" ? "shared" : `shared ${kind}` });
}

function keep(state, role, entry) {
  const before = role.many ? (state.files[role.name] ?? []) : [];
  state.files[role.name] = [...before.filter(({ name }) => name !== entry.name), entry];
  say(`${entry.name} added as ${role.label}`);
  showChosen(state, role);
}

function showChosen(state, role) {
  const list = find(`chosen-${role.name}`);
  list.replaceChildren(...(state.files[role.name] ?? []).map((entry) => {
    const remove = make("button", { type: "button", "aria-label": `Remove ${entry.name}` }, "Remove");
    remove.addEventListener("click", () => {
      state.files[role.name] = state.files[role.name].filter((each) => each !== entry);
      showChosen(state, role);
      find(`file-${role.name}`).focus();
    });
    return make("li", {}, make("span", { class: "name" }, entry.name), make("span", { class: "note" }, entry.note), remove);
  }));
}

/** Return the options that differ from nothing. */
function readOptions(task) {
  const found = {};
  for (const choice of task.choices) {
    const input = find(`option-${choice.name}`);
    if (choice.kind === "yes") found[choice.name] = input.checked;
    else if (input.value !== "") found[choice.name] = choice.kind === "text" ? input.value : Number(input.value);
  }
  return found;
}

/** Send the files, then start the job. */
async function submit(state) {
  const { task } = state;
  complain(find("problem"), "");
  const needed = task.roles.find((role) => role.flag === "");
  if (!state.files[needed.name]?.length) {
    complain(find("problem"), `${needed.label} is missing; choose or drop a file`);
    find(`file-${needed.name}`).focus();
    return;
  }
  setBusy(state, true);
  try {
    const files = {};
    const given = { ...state.files };
    for (const [role, entries] of Object.entries(given)) {
      files[role] = [];
      for (const entry of entries) {
        // What was sent once is not sent again after a refusal.
        if (entry.file && !entry.upload) entry.upload = await send(entry.file);
        files[role].push(entry.file ? { upload: entry.upload } : { path: entry.path, job: entry.job ?? "" });
      }
    }
    const wanted = { command: task.command, files, options: readOptions(task), name: find("name").value };
    const headers = { "content-type": "application/json" };
    await ask("/api/jobs", { method: "POST", headers, body: JSON.stringify(wanted) });
    // What was added while the files were sent is for the next job.
    for (const [role, entries] of Object.entries(given)) {
      if (state.files[role]) state.files[role] = state.files[role].filter((entry) => !entries.includes(entry));
    }
    find("name").value = "";
    state.task.roles.forEach((role) => showChosen(state, role));
    if (matchMedia("(max-width: 820px)").matches) find("jobs").scrollIntoView();
  } catch (error) {
    if (error.message.startsWith("there is no upload")) Object.values(state.files).flat().forEach((each) => delete each.upload);
    complain(find("problem"), error.message);
  } finally {
    setBusy(state, false);
  }
}

function setBusy(state, isBusy) {
  state.busy = isBusy;
  find("submit").disabled = isBusy;
  find("sending").textContent = "";
  find("stop").hidden = find("sent").hidden = true;
}

/** Send a file and return by which name a job takes it. */
function send(file) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const [bar, stop] = [find("sent"), find("stop")];
    bar.hidden = stop.hidden = false;
    stop.onclick = () => request.abort();
    request.upload.onprogress = ({ loaded, total }) => {
      bar.value = loaded / total;
      find("sending").textContent = `${file.name}, ${Math.floor((100 * loaded) / total)} %`;
    };
    request.onload = () => {
      let found = {};
      try {
        found = JSON.parse(request.responseText);
      } catch {
        found.error = `the service answered ${request.status}`;
      }
      if (request.status === 201) resolve(found.upload);
      else reject(new Error(found.error));
    };
    request.onerror = () => reject(new Error(`${file.name} could not be sent: the connection broke off; try again`));
    request.onabort = () => reject(new Error(`${file.name} was not sent: you stopped it`));
    request.open("POST", `/api/uploads?name=${encodeURIComponent(file.name)}`);
    request.send(file);
  });
}

/** Let people choose in the shared folder; `take` gets path and kind. */
function openFolder(take, takesFolders) {
  const dialog = find("folder");
  const choose = (path, kind) => {
    take(path, kind);
    dialog.close();
  };
  const show = async (path) => {
    complain(find("folder-problem"), "");
    try {
      const found = await ask(`/api/folder?path=${encodeURIComponent(path)}`);
      find("place").textContent = path || "All of it";
      const up = path ? [{ name: "One folder up", kind: "up" }] : [];
      find("entries").replaceChildren(...[...up, ...found].map((entry) => {
        const at = path ? `${path}/${entry.name}` : entry.name;
        const button = make("button", { type: "button", class: `entry ${entry.kind}` }, entry.name);
        button.addEventListener("click", () => {
          if (entry.kind === "up") show(path.split("/").slice(0, -1).join("/"));
          else if (entry.kind === "folder") show(at);
          else choose(at, entry.kind);
        });
        return make("li", {}, button, make("span", { class: "note" }, entry.kind === "file" ? inBytes(entry.bytes) : entry.kind === "up" ? "" : entry.kind));
      }));
      if (!found.length) find("entries").append(make("li", { class: "note" }, "Nothing is here."));
      find("whole").hidden = !(takesFolders && path);
      find("whole").onclick = () => choose(path, "folder");
      find("entries").querySelector("button")?.focus();
    } catch (error) {
      complain(find("folder-problem"), error.message);
    }
  };
  find("folder-close").onclick = () => dialog.close();
  dialog.showModal();
  show("");
}
