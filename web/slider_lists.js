// A slider that was saved is in the lists of every page that is open, whichever workflow stands there and whoever has run it.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { renewLists } from "./lists.mjs"

app.registerExtension({
  name: "sliderlora.lists",
  setup() {
    api.addEventListener("slider_lora.files", () => renewLists(app))
  },
})
