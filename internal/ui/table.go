package ui

import (
	"slices"
	"strings"
	"time"

	"gardu/internal/txn"
)

// Text is one text in both languages. Words in braces are filled in by the page
// from the document's params.
type Text struct {
	ID string
	EN string
}

// Texts are a screen's texts by part. A part may have variants: "body.finpay.bind"
// goes before "body" where the request is a finpay.bind.
type Texts map[string]Text

// Arg is one argument of a command.
type Arg struct {
	Name   string `json:"name"`
	Secret bool   `json:"secret,omitempty"` // goes into a secret.Value and nowhere else
	Max    int    `json:"max,omitempty"`    // bytes, where more than 128
}

// limit is how many bytes the argument may have.
func (a Arg) limit() int { return max(a.Max, maxValue) }

// Command is what a page may ask for. All argument values are strings.
type Command struct {
	Name   string `json:"name"`
	Args   []Arg  `json:"args,omitempty"`
	Fields bool   `json:"fields,omitempty"` // takes the operation's fields by their names
}

// Screen is one row of the table.
type Screen struct {
	State    State
	Limit    time.Duration // without activity, then the question or Then
	Idle     bool          // the limit counts from the last touch, not from the opening, though nobody is asked
	Ask      bool          // "are you still there?" is asked before Then
	Then     State         // where time leads
	Wipes    bool          // time ends the session: new session id, page reload
	Holds    bool          // a typed PIN may be held while this is shown
	Shows    bool          // shows a request and follows it
	Tone     Tone
	Commands []Command
	Texts    Texts
}

// The three limits of the design: menus, entry and results. Screens with another
// limit say why.
const (
	menuLimit   = 45 * time.Second
	entryLimit  = 90 * time.Second
	resultLimit = 20 * time.Second
)

// The commands. Each is handled by the function of the same name in handlers.
var (
	cmdLang     = Command{Name: "lang", Args: []Arg{{Name: "lang"}}}
	cmdStay     = Command{Name: "stay"}
	cmdStart    = Command{Name: "start"}
	cmdChoose   = Command{Name: "choose", Args: []Arg{{Name: "operation"}}}
	cmdAgree    = Command{Name: "agree"}
	cmdBack     = Command{Name: "back"}
	cmdStop     = Command{Name: "stop"}
	cmdFields   = Command{Name: "submit_fields", Fields: true}
	cmdStaff    = Command{Name: "staff_code", Args: []Arg{{Name: "code", Secret: true}}}
	cmdPIN      = Command{Name: "submit_pin", Args: []Arg{{Name: "pin", Secret: true}}}
	cmdConfirm  = Command{Name: "confirm"}
	cmdEdit     = Command{Name: "edit"}
	cmdHold     = Command{Name: "hold"}
	cmdDecline  = Command{Name: "decline"}
	cmdCancel   = Command{Name: "cancel"}
	cmdWait     = Command{Name: "wait"}
	cmdOTP      = Command{Name: "submit_otp", Args: []Arg{{Name: "otp", Secret: true}}}
	cmdCode     = Command{Name: "submit_code", Args: []Arg{{Name: "code", Secret: true, Max: maxCode}}}
	cmdResend   = Command{Name: "resend"}
	cmdReceipt  = Command{Name: "receipt"}
	cmdFinish   = Command{Name: "finish"}
	everyScreen = []Command{cmdLang, cmdStay}
)

// arg finds an argument by its name.
func (c Command) arg(name string) (Arg, bool) {
	for _, a := range c.Args {
		if a.Name == name {
			return a, true
		}
	}
	return Arg{}, false
}

// missing names an argument that the command needs and did not get.
func (c Command) missing(args map[string]string, secret bool) string {
	for _, a := range c.Args {
		if _, ok := args[a.Name]; !ok && !(a.Secret && secret) {
			return a.Name
		}
	}
	return ""
}

// Screens is the table: every screen with its commands, limits, way out and
// words. It is served to the page, documents the protocol and drives the tests.
func Screens() []Screen {
	return slices.Concat(entryScreens, resultScreens, operatorScreens)
}

var (
	screenTable  = byState(Screens())
	commandTable = byName(Screens())
	textTable    = allTexts(Screens())
)

func byState(rows []Screen) map[State]*Screen {
	m := make(map[State]*Screen, len(rows))
	for i := range rows {
		m[rows[i].State] = &rows[i]
	}
	return m
}

func byName(rows []Screen) map[string]Command {
	m := map[string]Command{}
	for _, c := range everyScreen {
		m[c.Name] = c
	}
	for i := range rows {
		for _, c := range rows[i].Commands {
			m[c.Name] = c
		}
	}
	return m
}

// allTexts is every text under the key a document or the page uses: a screen's
// texts under its state, the others as they stand.
func allTexts(rows []Screen) map[string]Text {
	m := map[string]Text{}
	for i := range rows {
		for part, t := range rows[i].Texts {
			m[string(rows[i].State)+"."+part] = t
		}
	}
	for _, group := range []Texts{commonTexts, operationTexts, fieldTexts, reasonTexts, truthTexts, operatorTexts} {
		for key, t := range group {
			m[key] = t
		}
	}
	return m
}

// textKey finds the most fitting text of a screen's part: with the first variant
// that has one, else without a variant. It is empty where there is none.
func textKey(s State, part string, variants ...string) string {
	key := string(s) + "." + part
	for _, v := range variants {
		if v == "" {
			continue
		}
		if _, ok := textTable[key+"."+v]; ok {
			return key + "." + v
		}
	}
	if _, ok := textTable[key]; ok {
		return key
	}
	return ""
}

// reasonKey finds the text of a reason: the screen's own, else the common one.
func reasonKey(s State, r txn.Reason) string {
	if r == "" {
		return ""
	}
	if key := textKey(s, "reason", string(r)); key != "" {
		return key
	}
	if _, ok := textTable["reason."+string(r)]; ok {
		return "reason." + string(r)
	}
	return ""
}

// Words finds a text by the key that a document or the page uses.
func Words(key string) (Text, bool) {
	t, ok := textTable[key]
	return t, ok
}

// ReasonWords is what a customer reads about a reason.
func ReasonWords(r txn.Reason) (Text, bool) { return Words("reason." + string(r)) }

// say is a text in one language, for what the agent itself draws (the receipt).
func say(l Lang, key string) string {
	t := textTable[key]
	if l == English {
		return t.EN
	}
	return t.ID
}

// shownCode is what a customer reads to staff: the tone's letter and the reason.
func shownCode(t Tone, r string) string {
	if t.letter() == "" {
		return ""
	}
	if r == "" {
		r = "ok"
	}
	return t.letter() + "-" + strings.ToUpper(r)
}
