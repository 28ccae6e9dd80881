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
    keys: () => kept.keys(),
    /** The prompts that are waited for. */
    prompts: () => kept.values(),
    /** It trains, in the run of that prompt, or of one that this page does not know (""). */
    begun(key, prompt) {
      if (!prompt || kept.get(key) === prompt) kept.delete(key)
    },
    /** Those prompts have left the queue, in whatever way. A training that waited for one of them waits no more as soon as
     * `withdraw(key)` has taken its request back; whether there was any. */
    async left(prompts, withdraw) {
      const gone = kept.keys().filter((key) => prompts.includes(kept.get(key)))
      for (const key of gone) kept.delete(key)
      const over = gone.filter((key) => !asking.has(key)) // not asked for again meanwhile
      for (const key of over) asking.add(key)
      try {
        await Promise.all(over.map(withdraw))
      } finally {
        for (const key of over) asking.delete(key)
      }
      return over.length > 0
    },
  }
}

/** The ids of the prompts in what the server says of its queue. */
export function inQueue({ queue_running = [], queue_pending = [] }) {
  return [...queue_running, ...queue_pending].map(([, prompt]) => prompt)
}
