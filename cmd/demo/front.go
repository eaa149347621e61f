package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"gardu/cmd/demo/stage"
)

// front is a door for people: the screen's own address works once and for thirty
// seconds, so this one, which stays, fetches a fresh ticket and sends the browser
// on. A branch has none: there the kiosk session asks for its ticket itself.
type front struct {
	addr string
	srv  *http.Server
	done chan struct{}
}

func openFront(ctx context.Context, s *stage.Stage) (*front, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Front)
	if err != nil {
		return nil, fmt.Errorf("open the demo's front door: %w", err)
	}
	f := &front{addr: s.Front, done: make(chan struct{})}
	f.srv = &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/" || r.Host != s.Front {
			http.NotFound(w, r)
			return
		}
		url, err := s.Ticket(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, url, http.StatusSeeOther)
	})}
	go func() {
		defer close(f.done)
		_ = f.srv.Serve(l)
	}()
	return f, nil
}

func (f *front) close() {
	_ = f.srv.Close()
	<-f.done
}

func welcome(s *stage.Stage, addr string) {
	line := func(what, how string) { fmt.Printf("    %-42s %s\n", what, how) }
	fmt.Printf("\n  The screen:  http://%s/\n\n  What to try:\n", addr)
	line("Reset a PIN, bind an account", "phone "+stage.Customer+" (any number that begins with 08)")
	line("Unbind an account", "phone "+stage.Linked+", which is bound already")
	line("Forgotten merchant PIN", "merchant id "+stage.Merchant+" (any works)")
	line("New PIN for a prepaid card", "URN "+stage.CardURN+", last four "+stage.CardLast4+", customer id "+stage.CardCustomer)
	line("", "staff code "+s.StaffCode)
	control := func(path string) string { return "'http://" + s.Control + path + "'" }
	fmt.Println("\n  The platforms' side, played by the sandbox:")
	line("the one-time password of an unbinding", "curl "+control("/otp?phone="+stage.Linked))
	line("finish a binding on the customer's page", `curl -d '{"phone":"`+stage.Customer+`"}' `+control("/link"))
	line("take Finpay's link away", `curl -d '{"provider":"finpay","kind":"down"}' `+control("/fault"))
	line("lose Finpay's next answer", `curl -d '{"provider":"finpay","kind":"break_after_effect","times":1}' `+control("/fault"))
	line("mend everything", "curl -d '{}' "+control("/clear"))
	line("what it saw and did", "curl "+control("/effects"))
	gardu := s.Path("bin", "gardu") + " --config " + s.Path("gardu.toml") + " "
	fmt.Println("\n  The agent's side:")
	for _, c := range []string{"check", "queue list", "keys list", "audit verify"} {
		fmt.Println("    " + gardu + c)
	}
	fmt.Println("\n  Logs are in " + s.Path("log") + ". Ctrl-C stops everything.")
}
