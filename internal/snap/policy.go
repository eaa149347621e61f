package snap

import (
	"time"

	"gardu/internal/txn"
)

// The providers' names: the unit of link state, and what configuration and log
// lines call them.
const (
	FinpayName = "finpay"
	NetzmeName = "netzme"
)

const (
	fieldPhone      = "phoneNo"
	fieldCustomerID = "custIdMerchant"
)

// Times of docs/providers.md, "What may wait, and how long", and of read-back.
const (
	waitMessage = 30 * time.Minute // nothing more is needed from the customer
	waitPresent = 3 * time.Minute  // the customer must be standing there
	quiet       = 2 * time.Minute
	settleBlind = 15 * time.Minute // where nothing can be read back
	settleRead  = 24 * time.Hour
	readEvery   = 5 * time.Second
)

// FinpayFields returns what a customer enters for every Finpay operation.
func FinpayFields() []txn.Field {
	return []txn.Field{{Name: fieldPhone, Min: 10, Max: 16, Digits: true, Prefix: "08"}}
}

// FinpayOTP returns the one-time password of an unbinding's second call. The
// document allows 1 to 8 digits (docs/providers.md, Finpay, Account Unbinding).
func FinpayOTP() txn.Field {
	return txn.Field{Name: "otp", Min: 1, Max: 8, Digits: true}
}

// FinpayCode returns the code that a binding's page ends with (SNAP standard,
// service 74: up to 256 characters).
func FinpayCode() txn.Field {
	return txn.Field{Name: "authCode", Min: 4, Max: maxAuthCode}
}

// NetzmeFields returns what a customer enters for a forgotten PIN.
func NetzmeFields() []txn.Field {
	return []txn.Field{{Name: fieldCustomerID, Min: 1, Max: 64}}
}

// FinpayPolicies returns the defaults of Finpay's operations.
func FinpayPolicies() []txn.Policy {
	otp, code := FinpayOTP(), FinpayCode()
	return []txn.Policy{
		{
			Operation: txn.FinpayResetPIN, Provider: FinpayName, Enabled: true,
			Fields: FinpayFields(), Identity: fieldPhone,
			Wait: waitMessage, HoldOffline: true,
			Quiet: quiet, Settle: settleBlind, NotThere: txn.Rejected,
		},
		{
			Operation: txn.FinpayBind, Provider: FinpayName, Enabled: true,
			Fields: FinpayFields(), Code: &code, Identity: fieldPhone,
			Wait: waitPresent, HoldOffline: true,
			Readback: true, ReadbackEvery: readEvery, Quiet: quiet, Settle: settleRead, NotThere: txn.Expired,
		},
		{
			// NotThere is that of the second call; the first changes nothing and expires.
			Operation: txn.FinpayUnbind, Provider: FinpayName, Enabled: true,
			Fields: FinpayFields(), OTP: &otp, Identity: fieldPhone,
			Wait: waitPresent, HoldOffline: true,
			Readback: true, ReadbackEvery: readEvery, Quiet: quiet, Settle: settleRead, NotThere: txn.Rejected,
		},
	}
}

// NetzmePolicies returns the defaults of Netzme's operation.
func NetzmePolicies() []txn.Policy {
	return []txn.Policy{{
		Operation: txn.NetzmeForgotPIN, Provider: NetzmeName, Enabled: true,
		Fields: NetzmeFields(), Identity: fieldCustomerID,
		Wait: waitMessage, HoldOffline: true,
		Quiet: quiet, Settle: settleBlind, NotThere: txn.Rejected,
	}}
}
