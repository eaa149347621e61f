// Package wire makes one HTTP exchange over TLS and says whether a byte of it can
// have left. Everything above it decides by that answer whether a request may be
// made again, so the answer must never be wrong in the dangerous direction.
//
// # Why not net/http's client
//
// net/http.Transport repeats a request by itself when a reused connection turns
// out dead and the request looks repeatable, and when its context ends it may
// still be writing in another goroutine while the caller already has the error.
// Here one exchange is one goroutine, one connection and one Write. There is no
// code that could send a request twice. Messages are still parsed by net/http
// (ReadResponse).
//
// # Why HTTP/1.1 only
//
// An HTTP/2 connection carries several exchanges at once, sends frames of its own
// and lets the peer refuse a stream after its bytes have left. What of one request
// has left could not be said exactly. A kiosk makes a few calls a minute and has
// no use for multiplexing.
//
// # What is fixed
//
// https only; no redirect is followed (a 3xx is an answer); no cookies; no
// compression is asked for or undone; no proxy is taken from the environment; the
// system's certificate authorities count only where no CA file is named; heads
// and bodies of answers are capped.
//
// # When Sent is false
//
// Only for what happened before the request was handed to the TLS connection:
// name resolution, connecting, the proxy, the handshake, a context that ended.
// From the moment of the one Write on, Sent is true, whatever became of it. A
// reused connection is first looked at without blocking; one that the peer has
// closed is dropped and a new one made, with nothing lost.
package wire
