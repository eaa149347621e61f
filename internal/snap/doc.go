// Package snap speaks SNAP, Bank Indonesia's open API standard for payments, to
// the two platforms that use it: Finpay (reset PIN, account binding, unbinding,
// inquiry) and Netzme (forgot PIN). The agreed reading of the source documents,
// with every contradiction in them, is docs/providers.md; what is not documented
// there is a setting of FinpayConfig or NetzmeConfig.
//
// # One call
//
// A call needs an access token (service 73, RSA over clientId|timestamp), which
// is fetched when there is none, shared by all calls and renewed early. Then the
// body, built once as compact JSON, is hashed, the string to sign is made of it
// and signed (HMAC-SHA512 or SHA256withRSA), and those same bytes are sent. The
// timestamp is taken once per call, in a fixed +07:00.
//
// # What an answer means
//
// HTTP status and the last two digits of responseCode decide, by the one table in
// code.go; the message text never does. Where the HTTP status and the code
// disagree, the more cautious of the two counts: unknown before pending before
// rejected before success. What is not in the table is unknown. What was
// certainly not processed (an access token or a signature that was refused, a
// throttle) is txn.NotSent, after what was wrong has been mended where it can be.
//
// # A customer's own token
//
// A binding's page ends with a code, which service 74 exchanges for a token of that
// customer. It is kept in a Vault where an operation has customer_token on, renewed
// early and by one call at a time, since a refresh token works once, renewed once
// more after a refusal, and deleted with the binding. Of an account that was linked
// before, only the code proves a new binding.
//
// # Time
//
// Every answer's time is noted for the engine (txn.Timekeeper). Timestamps are
// corrected by it only where the provider refuses one.
//
// # Secrets
//
// A one-time password lives in one []byte that is cleared after the call. Access
// tokens are held as secret.Value. Of an answer only the documented fields are
// read, so a PIN in it goes nowhere; digits in its message text are masked.
package snap
