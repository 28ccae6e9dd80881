// What a preset of Slider Train Step does to the node's widgets. `presets`: {preset: {widget: value}}, as Python has them.

export const CUSTOM = "custom"

/** The values that choosing `preset` puts into widgets; none where it is custom or not known. */
export function values(presets, preset) {
  return Object.entries(presets?.[preset] ?? {})
}

/** The preset that remains when the user sets `widget` to `value` by hand. */
export function afterEdit(presets, preset, widget, value) {
  const own = presets?.[preset] ?? {}
  return widget in own && own[widget] !== value ? CUSTOM : preset
}
