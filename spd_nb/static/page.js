// Runs the front ends of a page without Python: traits and answers come from the page itself. `fronts` and `parts` are defined before this code.

async function inflate(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), c => c.charCodeAt(0))
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text()
}

// The model that anywidget gives a front end, with `answer` instead of Python
function recordedModel(state, answer) {
  const hears = new Map()
  const tell = (name, ...args) => (hears.get(name) || []).slice().forEach(f => f(...args))
  const model = {
    get: k => state[k],
    set(k, v) { state[k] = v; tell(`change:${k}`) },
    save_changes() {},
    on(name, f) { hears.set(name, [...(hears.get(name) || []), f]) },
    off(name, f) { hears.set(name, (hears.get(name) || []).filter(g => g !== f)) },
    send({ id, ask, args }) {
      queueMicrotask(() => {
        let reply
        try { reply = { id, answer: answer(model, ask, args) } } catch (e) { reply = { id, error: e.message } }
        tell('msg:custom', reply)
      })
    },
  }
  return model
}

let plotly = null
async function draw(el, id) {
  plotly ||= inflate('plotly').then(js => document.head.appendChild(Object.assign(document.createElement('script'), { textContent: js })))
  const [figure] = await Promise.all([inflate(id), plotly])
  const { data, layout } = JSON.parse(figure)
  el.replaceChildren()
  await window.Plotly.newPlot(el, data, layout, { responsive: true, displaylogo: false })
}

async function show(el, { id, front }) {
  if (front === null) return draw(el, id)
  const state = JSON.parse(await inflate(id)), { render, answer } = fronts[front]
  render({ model: recordedModel(state, answer), el })
}

// What is in view first; the rest when it comes near
const seen = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) {
    seen.unobserve(target)
    show(target, parts[target.dataset.part]).catch(e => target.append(`This part could not be shown: ${e.message}`))
  }
}, { rootMargin: '400px' })
document.querySelectorAll('[data-part]').forEach(e => seen.observe(e))
