// What is wrong with what is drawn now, as a list of sentences. Evaluated in the page.
(() => {
  const out = [], W = innerWidth, H = innerHeight;
  const root = document.documentElement;
  const mm = parseFloat(getComputedStyle(root).getPropertyValue('--mm'));
  const name = (e) => e.tagName.toLowerCase() + (typeof e.className === 'string' && e.className ? '.' + e.className : '') + ' "' + (e.textContent ?? '').trim().slice(0, 40) + '"';
  const shown = (e) => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0 && getComputedStyle(e).visibility !== 'hidden'; };
  const overlay = document.querySelector('.overlay:not([hidden])');
  const parts = overlay ? [overlay, ...(overlay.classList.contains('still-there') ? [document.querySelector('.foot')] : [])] : [document.querySelector('gardu-app')];
  const all = (q) => parts.flatMap((p) => [...p.querySelectorAll(q)]).filter((e) => shown(e) && !e.closest('.unseen'));
  const meet = (a, b) => [Math.min(a.right, b.right) - Math.max(a.left, b.left), Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)];

  // Nothing is cut off, nothing scrolls.
  for (const e of all('button, h1, p, dt, dd, li, .field, .qr, .banner, .stage, .act, .keypad, .cards, .facts, .buttons, gardu-countdown, .overlay-box, .tools, .ways')) {
    const r = e.getBoundingClientRect();
    if (r.left < -0.5 || r.top < -0.5 || r.right > W + 0.5 || r.bottom > H + 0.5) out.push('outside the screen: ' + name(e));
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0) out.push('clipped sideways: ' + name(e));
    if (e.matches('button, .stage, .act, .field, .banner, .overlay-box') && e.scrollHeight > e.clientHeight + 2) out.push(`clipped below: ${name(e)} ${e.scrollHeight}>${e.clientHeight}`);
  }
  for (const e of all('.ticket:not(.big) .mono dd, .tool span, .way span')) {
    const r = document.createRange();
    r.selectNodeContents(e);
    if (new Set([...r.getClientRects()].map((b) => Math.round(b.top))).size > 1) out.push('breaks in the middle: ' + name(e));
  }
  if (overlay && overlay.scrollHeight > overlay.clientHeight + 2) out.push('the overlay is cut off');
  if (root.scrollHeight > H + 1) out.push('the page scrolls');
  for (const box of all('.stage, .act')) {
    const b = box.getBoundingClientRect();
    for (const c of box.children) { const r = c.getBoundingClientRect(); if (shown(c) && (r.top < b.top - 1 || r.bottom > b.bottom + 1 || r.right > b.right + 1)) out.push('runs out of its part: ' + name(c)); }
  }

  // Texts do not lie over one another, can be read, and are words.
  const texts = [];
  let least = Infinity;
  const lum = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const rgba = (s) => { const n = s.match(/[\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const paper = (e) => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c.slice(0, 3); if (c[3] > 0) return null; } return [255, 255, 255]; };
  for (const p of parts) {
    const walk = document.createTreeWalker(p, NodeFilter.SHOW_TEXT);
    for (let n; (n = walk.nextNode());) {
      const e = n.parentElement;
      if (n.data.trim() === '' || !shown(e) || e.closest('.unseen, [hidden]')) continue;
      const range = document.createRange();
      range.selectNodeContents(n);
      const style = getComputedStyle(e);
      for (const r of range.getClientRects()) texts.push({ e, r: { left: r.left, right: r.right, top: r.top + r.height * 0.2, bottom: r.bottom - r.height * 0.2 } });
      const behind = paper(e), size = parseFloat(style.fontSize);
      if (!behind) { out.push('see-through paper: ' + name(e)); continue; }
      const a = lum(rgba(style.color)), b = lum(behind), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (ratio < 7) out.push(`contrast ${ratio.toFixed(2)}: ${name(e)}`);
      if (e.matches('p, h1, .main, .side, .card-title, dd, .key:not(.fn)') && !e.matches('.service, .done-note, .hint, .notice')) least = Math.min(least, (size / mm) * 0.668);
      if (size / mm < 5.1) out.push(`letters of ${(size / mm).toFixed(1)} mm: ${name(e)}`);
    }
  }
  texts.forEach((a, i) => texts.slice(i + 1).forEach((b) => { const [x, y] = meet(a.r, b.r); if (a.e !== b.e && x > 1 && y > 1) out.push(`texts overlap: ${name(a.e)} / ${name(b.e)}`); }));
  for (const m of parts.map((p) => p.innerText).join(' ').match(/[A-Z_]{3,}\.[a-z_.]+|\{\w+\}|undefined|null|NaN|\[object/g) ?? []) out.push('raw text: ' + m);

  // Targets: 16 mm, 20 mm on number pads, 4 mm apart, within reach.
  const targets = all('button').map((e) => ({ e, r: e.getBoundingClientRect() }));
  const low = root.dataset.reach === 'low';
  for (const { e, r } of targets) {
    const want = e.closest('.keypad.digits') ? 20 : 16, have = Math.min(r.width, r.height) / mm;
    if (have < want - 0.05) out.push(`smaller than ${want} mm: ${name(e)} ${have.toFixed(1)}`);
    if (H > W && r.top < H * (low ? 0.46 : 0.4) && !e.matches('.test-field')) out.push(`out of reach: ${name(e)} at ${Math.round((100 * r.top) / H)} %`);
    if (!e.disabled && e.getAttribute('aria-label') === null && e.innerText.trim() === '') out.push('nameless: ' + name(e));
  }
  targets.forEach((a, i) => targets.slice(i + 1).forEach((b) => {
    const [x, y] = meet(a.r, b.r);
    if (x > 0 && y > 0) out.push(`targets overlap: ${name(a.e)} / ${name(b.e)}`);
    else if (Math.max(-x, -y) / mm < 3.95) out.push(`closer than 4 mm: ${name(a.e)} / ${name(b.e)} ${(Math.max(-x, -y) / mm).toFixed(1)}`);
  }));

  // Nobody is left without a way on, but for moments that pass by themselves.
  const state = document.querySelector('main')?.dataset.state;
  if (!overlay && !['BOOT', 'SUBMIT', 'WORKING', 'VERIFY', 'GOODBYE', 'OP_EXIT', 'OUT_OF_SERVICE'].includes(state) && all('.main:not(:disabled), .side:not(:disabled), .card:not(:disabled), .way').length === 0) out.push('no way out');

  // Keyboards and readers find the screen's beginning.
  if (document.querySelectorAll('h1').length !== (overlay ? 2 : 1) && !(overlay && document.querySelectorAll('h1').length === 1)) out.push('not one title');
  return { faults: out, capitals: least };
})()
