// Browsers run no worker from a file: here it runs in a hidden frame, so that the search works offline.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => setTimeout(() => this.onmessage?.({ data }));
      const script = inside.document.createElement("script");
      script.src = url;
      this.loaded = new Promise((resolve) => (script.onload = resolve));
      script.onerror = (error) => this.onerror?.(error);
      inside.document.body.append(script);
    }

    postMessage(given) {
      const data = structuredClone(given);
      this.loaded.then(() => setTimeout(() => this.frame.contentWindow?.onmessage({ data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
