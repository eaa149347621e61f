package txn

import (
	"time"

	"gardu/internal/secret"
)

// New is what somebody asks for at the screen.
type New struct {
	Key        string            // idempotency key: the same key and content give the same request
	Operation  Operation         //
	Fields     map[string]string // by Policy.Fields
	Secret     *secret.Value     // by Policy.Secret; the engine takes its own copy
	VerifiedBy string            // staff id, or Verify's proof, where somebody confirms the card and the person
}

// Link is what is known of the way to one provider.
type Link struct {
	Provider string
	Known    bool      // false until the first probe or call ended
	Up       bool      //
	Held     bool      // sending is stopped until NextTry or an operator
	Reason   Reason    // why it is not up
	Since    time.Time // of the present standing
	NextTry  time.Time // when not up
}
