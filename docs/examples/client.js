// A front end's connection to the agent, whole, for a page of the agent's origin. show(docs, text) is called with the newest
// documents: draw what session.state says, offer session.commands, decide nothing. command(name, args) resolves with the result.
async function gardu(show) {
  const page = await (await fetch('/', { cache: 'no-store' })).text(); // the cookie gives a page, the page a token
  const token = /name="gardu-page" content="([^"]+)"/.exec(page)[1];
  const { texts } = await (await fetch('/screens.json', { cache: 'no-store' })).json();
  const text = (key, params) => (texts[docs.session.lang][key] ?? key).replace(/\{(\w+)\}/g, (word, name) => params?.[name] ?? word);
  const waiting = new Map(); // commands without a result: sent again after a lost connection, carried out once
  let docs, cursor, socket;
  const send = (frame) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(frame));
  const answer = (result) => { send({ type: 'ack', id: result.id }); waiting.get(result.id)?.resolve(result); waiting.delete(result.id); };
  const take = ({ type, state, epoch, seq, ...rest }) => {
    if (!state) return type === 'result' && answer(rest); // else a tick, or something newer than this client
    const before = docs?.session.session;
    [docs, cursor] = [type === 'snapshot' ? state : { ...docs, ...state }, { epoch, since: seq }];
    if (before && docs.session.session !== before) location.replace('/'); // wiped: nothing of the last customer may stay
    else show(docs, text);
  };
  (function connect() {
    socket = new WebSocket(`ws://${location.host}/ws`, 'gardu.v1');
    socket.onopen = () => { send({ type: 'hello', token, lang: docs?.session.lang ?? 'id', ...cursor }); waiting.forEach(({ frame }) => send(frame)); };
    socket.onmessage = ({ data }) => take(JSON.parse(data));
    socket.onclose = ({ code }) => (code === 4001 || code === 4002 ? location.replace('/') : code !== 4009 && setTimeout(connect, 500));
  })();
  return (name, args = {}) => new Promise((resolve) => {
    const frame = { type: 'command', id: crypto.randomUUID(), session: docs.session.session, screen: docs.session.screen, name, args };
    waiting.set(frame.id, { frame, resolve });
    send(frame);
  });
}
