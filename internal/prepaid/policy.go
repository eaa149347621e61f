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
	entry := p.pins.Field(p.cfg.PINMin, p.cfg.PINMax)
	pol := txn.Policy{
		Operation:   txn.PrepaidResetPIN,
		Provider:    Name,
		Enabled:     true,
		Fields:      cardFields(),
		Secret:      &entry,
		Identity:    FieldURN,
		Wait:        wait,
		HoldOffline: p.cfg.Offline == OfflineHold,
		Settle:      settle,
		NotThere:    txn.Rejected,
		ShortRef:    true,
		StaffVerify: p.cfg.Verification == VerifyByStaff,
		CardVerify:  p.cfg.Verification == VerifyByCardholder,
	}
	if p.cfg.Verification == "" {
		pol.Enabled, pol.Why = false, whyOff
	}
	return []txn.Policy{pol}
}

const whyOff = `prepaid.reset_pin is switched off until the card is validated first; ` +
	`set prepaid.verification to "staff" or "verify_cardholder"`
