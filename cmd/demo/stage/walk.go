package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Ticket asks the agent for the address that opens the screen.
func (s *Stage) Ticket(ctx context.Context) (string, error) {
	out, err := s.Gardu(ctx, "", "ui", "ticket", "--json")
	if err != nil {
		return "", err
	}
	var t struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(out, &t); err != nil {
		return "", fmt.Errorf("read the ticket: %w", err)
	}
	return t.URL, nil
}

// Wish is what a customer wants and types.
type Wish struct {
	Operation string
	Fields    map[string]string
	PIN       string // where the operation takes one; staff confirm the card before it
}

// ToIdent loads a fresh page, ends the session before the way a customer ends it,
// and walks to the entry of the fields.
func (k *Kiosk) ToIdent(ctx context.Context, lang, operation string) error {
	if err := k.Load(ctx, lang); err != nil {
		return err
	}
	s, err := k.Until(ctx, 15*time.Second, "a screen", func(Session) bool { return true })
	if err != nil {
		return err
	}
	for s.State != "ATTRACT" {
		for _, end := range []string{"finish", "stop", "decline", "cancel"} {
			if slices.Contains(s.Commands, end) {
				if err := k.Must(ctx, end, nil); err != nil {
					return err
				}
				break
			}
		}
		was := s.Screen
		if s, err = k.Until(ctx, 25*time.Second, "the next screen after "+s.State, func(n Session) bool { return n.Screen != was }); err != nil {
			return err
		}
	}
	for _, cmd := range []struct {
		name string
		args map[string]string
	}{{"lang", map[string]string{"lang": lang}}, {"start", nil}, {"choose", map[string]string{"operation": operation}}, {"agree", nil}} {
		if err := k.Must(ctx, cmd.name, cmd.args); err != nil {
			return err
		}
	}
	return nil
}

// ToReview walks to the review of a wish.
func (k *Kiosk) ToReview(ctx context.Context, lang string, w Wish) error {
	if err := k.ToIdent(ctx, lang, w.Operation); err != nil {
		return err
	}
	if err := k.Must(ctx, "submit_fields", w.Fields); err != nil {
		return err
	}
	if w.PIN != "" {
		if err := k.Must(ctx, "staff_code", map[string]string{"code": k.s.StaffCode}); err != nil {
			return err
		}
		for range 2 {
			if err := k.Must(ctx, "submit_pin", map[string]string{"pin": w.PIN}); err != nil {
				return err
			}
		}
	}
	_, err := k.WaitFor(ctx, "REVIEW")
	return err
}

// Confirm confirms the review, also that the request may wait for the link.
func (k *Kiosk) Confirm(ctx context.Context) error {
	if err := k.Must(ctx, "confirm", nil); err != nil {
		return err
	}
	if k.Session().State != "OFFER_QUEUE" {
		return nil
	}
	return k.Must(ctx, "hold", nil)
}

// Submit walks to the review, confirms, and waits for one of the screens.
func (k *Kiosk) Submit(ctx context.Context, lang string, w Wish, screens ...string) (Session, error) {
	if err := k.ToReview(ctx, lang, w); err != nil {
		return Session{}, err
	}
	if err := k.Confirm(ctx); err != nil {
		return Session{}, err
	}
	return k.WaitFor(ctx, screens...)
}

// Row is a line of gardu queue list --all --json.
type Row struct {
	ID        string `json:"id"`
	Operation string `json:"operation"`
	Customer  string `json:"customer"` // masked
	State     string `json:"state"`
	Reason    string `json:"reason"`
	Reference string `json:"reference"`
}

// Queue is the journal as field operations see it.
func (s *Stage) Queue(ctx context.Context) ([]Row, error) {
	out, err := s.Gardu(ctx, "", "queue", "list", "--all", "--json")
	if err != nil {
		return nil, err
	}
	var rows []Row
	if err := json.Unmarshal(out, &rows); err != nil {
		return nil, fmt.Errorf("read gardu queue list: %w", err)
	}
	return rows, nil
}

// AuditUnbroken checks the audit record as field operations do.
func (s *Stage) AuditUnbroken(ctx context.Context) error {
	_, err := s.Gardu(ctx, "", "audit", "verify")
	return err
}
