// In a page that is opened as a file browsers start no worker: the script runs in a hidden frame.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inner = frame.contentWindow
      inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = inner.document.createElement("script")
      script.src = url
      script.onload = () => {
        this.send = data => inner.dispatchEvent(new inner.MessageEvent("message", { data }))
        this.waiting.forEach(this.send)
      }
      inner.document.body.append(script)
    }

    postMessage(data) {
      this.send ? this.send(data) : this.waiting.push(data)
    }
  }
}
