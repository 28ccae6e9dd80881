// What a person has asked of trainings and what has not happened yet, by words that outlive a panel: ComfyUI makes nodes anew at a
// tab switch, an undo and a reload. No page, no ComfyUI; tested with `node --test`.

/** The trainings that are queued to train on, in a map that the page keeps: key of a training -> id of its prompt. */
export function makeQueued(kept) {
  const asking = new Set() // keys whose prompt has no id yet
  return {
    /** Whether that training waits for its run. */
    has: (key) => asking.has(key) || kept.has(key),
    /** Queue it by `queue()`, which gives the id of the prompt, or nothing where none was queued: whether it waits now. */
    async ask(key, queue) {
      asking.add(key)
      try {
        const prompt = await queue()
        if (prompt) kept.set(key, prompt)
        return Boolean(prompt)
      } finally {
        asking.delete(key)
      }
    },
    /** The prompts that are waited for. */
    prompts: () => kept.values(),
    /** It trains, in the run of that prompt, or of one that this page does not know (""). */
    begun(key, prompt) {
      if (!prompt || kept.get(key) === prompt) kept.delete(key)
    },
    /** Those prompts have left the queue, in whatever way: the trainings that waited for them, and wait no more. */
    left(prompts) {
      const gone = kept.keys().filter((key) => prompts.includes(kept.get(key)))
      for (const key of gone) kept.delete(key)
      return gone.filter((key) => !asking.has(key)) // asked again meanwhile
    },
  }
}

/** The ids of the prompts in what the server says of its queue. */
export function inQueue({ queue_running = [], queue_pending = [] }) {
  return [...queue_running, ...queue_pending].map(([, prompt]) => prompt)
}
