package prepaid

import (
	"time"

	"gardu/internal/txn"
)

// Name is the provider's name in policies, links and customers.
const Name = "prepaid"

// The request's fields, named as in the platform's document.
const (
	FieldURN      = "urn"
	FieldLast4    = "last4Digits"
	FieldCustomer = "customerId"
	FieldNewPIN   = "newPIN"
)

const (
	wait   = 5 * time.Minute  // docs/providers.md, "What may wait, and how long"
	settle = 15 * time.Minute // no read-back can end a doubt; after this a person does
)

func cardFields() []txn.Field {
	return []txn.Field{
		{Name: FieldURN, Min: 1, Max: 11, Digits: true},
		{Name: FieldLast4, Min: 4, Max: 4, Digits: true},
		{Name: FieldCustomer, Min: 1, Max: 32},
	}
}

// Policies says what Reset PIN may and must do here.
func (p *Provider) Policies() []txn.Policy {
	pol := txn.Policy{
		Operation:   txn.PrepaidResetPIN,
		Provider:    Name,
		Enabled:     true,
		Fields:      cardFields(),
		Secret:      &txn.Field{Name: FieldNewPIN, Min: p.cfg.PINMin, Max: p.cfg.PINMax, Digits: true},
		Identity:    FieldURN,
		Wait:        wait,
		HoldOffline: p.cfg.Offline == OfflineHold,
		Settle:      settle,
		NotThere:    txn.Rejected,
		ShortRef:    true,
		StaffVerify: p.cfg.Verification == VerifyByStaff,
	}
	switch p.cfg.Verification {
	case "":
		pol.Enabled, pol.Why = false, whyOff
	case VerifyByCardholder:
		// The call is there (Verify), but the screen does not make it yet; without it
		// whoever holds a card and knows its number could set its PIN.
		pol.Enabled, pol.Why = false, whyNotYet
	}
	return []txn.Policy{pol}
}

const whyNotYet = `the screen of this release cannot verify by the platform's call yet; ` +
	`set prepaid.verification to "staff"`

const whyOff = `prepaid.reset_pin is switched off until the card is validated first; ` +
	`set prepaid.verification to "staff" or "verify_cardholder"`
