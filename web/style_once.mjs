/** Put a style sheet into the page, once however often it is asked for. */
export function styleOnce(document, id, text) {
  if (document.getElementById(id)) return
  const style = document.createElement("style")
  style.id = id
  style.textContent = text
  document.head.append(style)
}
