// Package operator says who may open the operator screen. An operator has an id, a
// time-based one-time password (TOTP, RFC 6238: HMAC-SHA-1, 30 seconds, 6 digits)
// from an authenticator of their own, which works without any network, and ten
// recovery codes on paper, each good for one time, for the day the machine's clock
// is wrong.
//
// # Files
//
// The operators' file is a credential and changes only by hand: TOML, one
// [[operator]] table each with id, seed (Base32, as authenticators take it) and
// recovery, the digests of the codes:
//
//	SHA-256 of "gardu recovery code", a zero byte, the id, a zero byte and the code
//
// A code has 50 random bits and may be tried a few times an hour, so that a slow
// hash would add nothing.
//
// What was used stands in a state file of the agent's own, which is written and
// synced before a code is accepted: no code, also of the present half minute, opens
// the screen twice, whatever restarts in between.
package operator
