// Package ui is the customer's screen: a server on the loopback interface, the
// page it serves, the websocket protocol gardu.v1 and the sessions behind it.
// The protocol is a public contract and stands in docs/protocol-ui.md.
//
// # Who owns what
//
// The agent owns every screen. One goroutine, the desk, holds the session:
// which screen is shown, how long, what was typed, and what may be done next.
// The page renders what it is told and sends commands; it decides nothing. All
// screens, their commands, time limits and words stand in one table (see
// Screens), which is served to the page and drives the tests.
//
// # What is trusted
//
// Loopback is not a wall: any web page and any local process can reach
// 127.0.0.1. A request is served only for the exact Host; a websocket and every
// method other than GET and HEAD only from the exact Origin. A ticket that lives
// 30 seconds and works once gives a cookie; the cookie gives the page; the page
// carries a token of its own, and only that token opens a session. A cookie
// alone proves nothing, because browsers send it to every port of the host.
//
// # Secrets
//
// A PIN or one-time password enters in one command's args, is parsed by hand
// into a secret.Value, and the frame it came in is cleared. It is held at most
// until the request is accepted, and is wiped when the question "are you still
// there?" opens, when the screen is left, when the session ends and when the
// server stops. It is never part of a document, a log line or an error.
//
// # Cursor, not queue
//
// The board keeps the latest document per topic with the sequence number of its
// last change. A connection keeps only the number it has sent up to, so a slow
// client costs no memory and a reconnecting one gets exactly the difference.
package ui
