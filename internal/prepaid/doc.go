// Package prepaid speaks the prepaid card platform's API: Reset PIN and, where
// configured, Verify Cardholder.
//
// # The message
//
// A request is compact JSON, encrypted with AES-192-CBC under a static key that
// both sides hold, sent as {"token": base64} with five identifying headers. There
// is no signature and no checksum. The key stays in the token device: the package
// asks a Cipher for raw CBC and does the PKCS#7 padding itself, in constant time,
// because devices answer bad padding with an error of their own.
//
// # What is trusted
//
// CBC carries no integrity: whoever can change a token on its way can change its
// text without knowing the key. Integrity comes from TLS alone (see package wire).
// Nothing is concluded from an answer before it is decrypted, unpadded and parsed
// as a whole; whatever goes wrong on that way is one and the same error, and the
// outcome is then unknown, never a failure. A success needs a listed code, HTTP
// status 200, an envelope that opens, and every echo equal to what was sent. Where
// HTTP status and code disagree, the more cautious of the two counts.
//
// # The PIN
//
// The new PIN is the most sensitive thing the agent holds. It comes from a PINSource:
// the screen, or a PIN pad that encrypts, whose block is opened here alone. The
// digits are never a string: they go into one buffer of known size, are padded and
// encrypted there, and the buffer is cleared before the call goes out. They are in no
// log, no error and no Answer; a text in which the platform repeats them is dropped.
// In a program built with GOEXPERIMENT=runtimesecret the stack and the registers of
// that way are erased too (package secret, Do).
//
// Reset PIN has no read-back and is never repeated when in doubt.
package prepaid
