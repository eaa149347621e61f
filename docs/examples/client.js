// A front end's connection to the agent, whole: show(docs, text) is called with the newest documents whenever they
// change, command(name, args) resolves with the result. It runs in a page that the agent serves or a shell that keeps
// the agent's origin. Draw what session.state says, offer session.commands, decide nothing.
async function gardu(show) {
  const page = await (await fetch('/', { cache: 'no-store' })).text(); // the cookie gives a page, the page a token
  const token = /name="gardu-page" content="([^"]+)"/.exec(page)[1];
  const table = await (await fetch('/screens.json', { cache: 'no-store' })).json();
  const waiting = new Map(); // commands without a result: sent again after a lost connection, carried out once
  let docs = {}, cursor = {}, session, socket;
  const text = (key, params = {}) => (table.texts[docs.session.lang][key] ?? key).replace(/\{(\w+)\}/g, (all, name) => params[name] ?? all);
  const send = (frame) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(frame));
  const take = (frame) => {
    if (frame.type === 'result') {
      send({ type: 'ack', id: frame.id });
      waiting.get(frame.id)?.resolve(frame);
      waiting.delete(frame.id);
    }
    if (!frame.state) return; // a tick, or something newer than this client
    docs = frame.type === 'snapshot' ? frame.state : { ...docs, ...frame.state };
    cursor = { epoch: frame.epoch, since: frame.seq };
    session ??= docs.session.session;
    if (docs.session.session !== session) location.replace('/'); // wiped: nothing of the last customer may stay
    else show(docs, text);
  };
  const connect = () => {
    socket = new WebSocket(`ws://${location.host}/ws`, 'gardu.v1');
    socket.onopen = () => {
      send({ type: 'hello', token, lang: docs.session?.lang ?? 'id', ...cursor });
      for (const { frame } of waiting.values()) send(frame);
    };
    socket.onmessage = (e) => take(JSON.parse(e.data));
    socket.onclose = ({ code }) => (code === 4001 || code === 4002 ? location.replace('/') : code !== 4009 && setTimeout(connect, 500));
  };
  connect();
  return (name, args = {}) => new Promise((resolve) => {
    const frame = { type: 'command', id: crypto.randomUUID(), session, screen: docs.session.screen, name, args };
    waiting.set(frame.id, { frame, resolve });
    send(frame);
  });
}
