package prepaid

import (
	"context"

	"gardu/internal/txn"
)

// PINSource is the device at which a customer enters a new PIN. What the device
// hands over goes through screen, engine and journal as it is, and is opened here
// for as long as one message is built or judged.
//
// The screen hands over the digits themselves (ScreenEntry). An encrypting PIN pad
// hands over a block that only a key in the token opens, so that no digit is ever in
// the memory of the screen, the engine or the journal. Such a pad asks for the PIN
// twice by itself, compares both, and its driver brings the one block for both
// entries of the screen's protocol.
type PINSource interface {
	// Field is the form of what is handed over for a PIN of so many digits. Screen and
	// engine hold it against this before anything is stored.
	Field(digitsMin, digitsMax int) txn.Field
	// Open calls use once with the digits, and clears every copy that it made of them
	// before it returns. It keeps neither. The error is the device's: use was not called.
	Open(ctx context.Context, entered []byte, use func(digits []byte)) error
}

// ScreenEntry is the touchscreen as the place of entry.
type ScreenEntry struct{}

var _ PINSource = ScreenEntry{}

// Field is the PIN's own form.
func (ScreenEntry) Field(digitsMin, digitsMax int) txn.Field {
	return txn.Field{Name: FieldNewPIN, Min: digitsMin, Max: digitsMax, Digits: true}
}

// Open hands on what was entered: it is the engine's, who clears it.
func (ScreenEntry) Open(_ context.Context, entered []byte, use func(digits []byte)) error {
	use(entered)
	return nil
}

// digitsField is the PIN itself, whatever the device handed over.
func (c *Config) digitsField() txn.Field {
	return txn.Field{Name: FieldNewPIN, Min: c.PINMin, Max: c.PINMax, Digits: true}
}
