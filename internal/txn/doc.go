// Package txn says what a request is and how it is carried out: the states it
// goes through, the outcomes of its attempts, the policy of each operation, and
// the Engine, the one loop that decides what is done next.
//
// The rule that everything hangs on: an attempt is on disk before its first
// byte leaves. An attempt that began and did not finish is Unknown after a
// restart; it may be inquired about and is never silently repeated. What the
// screen is told is already on disk.
//
// A request's way through the states:
//
//	queued → sending → (pending | in_doubt) → succeeded | rejected | expired | cancelled | unresolved
//
// The package knows neither HTTP nor bbolt nor PKCS#11: it declares what it
// needs as the interfaces Store and Provider, and cmd/agent passes them in.
package txn
