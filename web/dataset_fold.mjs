// In an App the panel of Load Slider Dataset is low from the first training on, until somebody works in it.

const WORK = ["click", "dragenter"]

/** Let a panel be `in-use` from the first work in it on, and as soon as it has the focus, until it is folded; never while a pointer is
 * pressed. Gives the function that folds it. `released` as in press.mjs. */
export function makeFold(element, released) {
  const use = () => element.classList.add("in-use")
  const fold = () => element.classList.remove("in-use")
  for (const event of WORK) element.addEventListener(event, use)
  element.addEventListener("focusin", () => released(use))
  return () => released(fold)
}
