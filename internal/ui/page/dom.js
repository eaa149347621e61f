// Makes elements without ever parsing markup: text is text, whatever is in it.

const svgSpace = 'http://www.w3.org/2000/svg';

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'onclick') node.addEventListener('click', value);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

/** An element with attributes (onclick is a listener) and children. */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** The same in the SVG namespace. */
export const s = (tag, props, ...children) => fill(document.createElementNS(svgSpace, tag), props, children);
