// The way to the operator screen.

const corner = 30; // mm of the head's beginning that count as the corner
const within = 3_000; // ms for all five touches
const wanted = 5;

let touches = [];

/** Five touches in the corner lead to the operator screen, from where the agent allows it. */
export function cornerTap(app, e) {
  const mm = Number.parseFloat(getComputedStyle(document.documentElement).getPropertyValue('--mm')) || 4;
  const { session } = app.docs;
  if (!session?.commands.includes('operator') || !e.target.closest?.('.head') || e.clientX > corner * mm) {
    touches = [];
    return;
  }
  const now = performance.now();
  touches = [...touches.filter((at) => now - at < within), now];
  if (touches.length < wanted) return;
  touches = [];
  app.run('operator');
}
