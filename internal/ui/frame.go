package ui

import (
	"errors"
	"fmt"
	"strings"

	"gardu/internal/secret"
)

// Bounds of what a page may send.
const (
	readLimit = 8 << 10 // bytes of one frame
	maxID     = 64      // characters of a command id or session id
	maxShown  = 32      // characters of a screen id
	maxValue  = 128     // bytes of one argument, where its command says nothing else
	maxCode   = 256     // bytes of the code that a customer's page ends with
)

// hello is the first frame of a connection.
type hello struct {
	token string
	lang  Lang
	epoch string
	since uint64
}

// command is one wish of the page. secret, where set, belongs to whoever holds
// the command, who must wipe it.
type command struct {
	id      string
	session string
	screen  string
	name    string
	args    map[string]string
	secret  *secret.Value
	wrong   string // the argument that did not fit the table; the desk refuses it
}

func (c *command) wipe() {
	c.secret.Wipe()
	c.secret = nil
}

// take hands the secret over to the caller.
func (c *command) take() *secret.Value {
	v := c.secret
	c.secret = nil
	return v
}

// frame is one parsed frame: exactly one of the four is set.
type frame struct {
	hello    *hello
	command  *command
	activity string // the session
	ack      string // a command id
}

var (
	errUnknownType  = errors.New("the frame has no type this protocol knows")
	errUnknownField = errors.New("the frame has a field that does not belong to its type")
	errMissing      = errors.New("the frame lacks a field")
	errValue        = errors.New("a field has a value that is not allowed")
)

// fieldsOf lists the fields of each type; those with true must be there.
var fieldsOf = map[string]map[string]bool{
	"hello":    {"type": true, "token": true, "lang": true, "epoch": false, "since": false},
	"command":  {"type": true, "id": true, "session": true, "screen": true, "name": true, "args": false},
	"activity": {"type": true, "session": true},
	"ack":      {"type": true, "id": true},
}

// parseFrame reads one frame of the page. Errors never quote the frame: it may
// hold a PIN. b may be cleared afterwards; nothing in the frame refers to it.
func parseFrame(b []byte) (frame, error) {
	s := scanner{b: b}
	text := map[string]string{}
	var since uint64
	var args []byte
	err := s.whole(func(key string) (err error) {
		switch key {
		case "type", "token", "lang", "epoch", "id", "session", "screen", "name":
			text[key], err = s.text(maxValue)
		case "since":
			text[key] = key
			since, err = s.number()
		case "args":
			text[key] = key
			args, err = s.span()
		default:
			err = errUnknownField
		}
		return err
	})
	if err != nil {
		return frame{}, err
	}
	known, ok := fieldsOf[text["type"]]
	if !ok {
		return frame{}, errUnknownType
	}
	for key := range text {
		if _, ok := known[key]; !ok {
			return frame{}, errUnknownField
		}
	}
	for key, must := range known {
		if _, ok := text[key]; must && !ok {
			return frame{}, fmt.Errorf("%w: %s", errMissing, key)
		}
	}
	return assemble(text, since, args)
}

func assemble(text map[string]string, since uint64, args []byte) (frame, error) {
	switch text["type"] {
	case "hello":
		lang := Lang(text["lang"])
		if lang != Indonesian && lang != English {
			return frame{}, fmt.Errorf("%w: lang", errValue)
		}
		return frame{hello: &hello{token: text["token"], lang: lang, epoch: text["epoch"], since: since}}, nil
	case "activity":
		if !plain(text["session"], maxID) {
			return frame{}, fmt.Errorf("%w: session", errValue)
		}
		return frame{activity: text["session"]}, nil
	case "ack":
		if !plain(text["id"], maxID) {
			return frame{}, fmt.Errorf("%w: id", errValue)
		}
		return frame{ack: text["id"]}, nil
	}
	c := &command{id: text["id"], session: text["session"], screen: text["screen"], name: text["name"]}
	switch {
	case !plain(c.id, maxID):
		return frame{}, fmt.Errorf("%w: id", errValue)
	case !plain(c.session, maxID):
		return frame{}, fmt.Errorf("%w: session", errValue)
	case !plain(c.screen, maxShown):
		return frame{}, fmt.Errorf("%w: screen", errValue)
	case !plain(c.name, maxShown):
		return frame{}, fmt.Errorf("%w: name", errValue)
	}
	if err := c.parseArgs(args); err != nil {
		c.wipe()
		return frame{}, err
	}
	return frame{command: c}, nil
}

// parseArgs reads the arguments as the table describes them for this command. An
// argument that does not fit is named in wrong and answered; only what is not
// JSON ends the connection.
func (c *command) parseArgs(raw []byte) error {
	spec, known := commandTable[c.name]
	if !known || raw == nil {
		if known {
			c.wrong = spec.missing(nil, false)
		}
		return nil
	}
	c.args = map[string]string{}
	s := scanner{b: raw}
	err := s.whole(func(key string) error {
		arg, ok := spec.arg(key)
		switch {
		case ok && arg.Secret:
			b, err := s.bytes(arg.limit())
			if errors.Is(err, errLong) {
				c.wrong = key
				return nil
			}
			c.secret = secret.New(b)
			return err
		case ok || spec.Fields:
			v, err := s.text(maxValue)
			if errors.Is(err, errLong) {
				c.wrong = key
				return nil
			}
			c.args[key] = v
			return err
		}
		c.wrong = key
		_, err := s.raw()
		return err
	})
	if err == nil && c.wrong == "" {
		c.wrong = spec.missing(c.args, c.secret != nil)
	}
	return err
}

// span takes an object of strings whole and returns its bytes, so that it can be
// read again once the command's name is known.
func (s *scanner) span() ([]byte, error) {
	s.space()
	from := s.i
	err := s.object(func(string) error {
		_, err := s.raw()
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.b[from:s.i], nil
}

// plain reports whether v is 1 to limit letters, digits, '_', '-', '.' or ':'.
func plain(v string, limit int) bool {
	if v == "" || len(v) > limit {
		return false
	}
	return strings.IndexFunc(v, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == ':')
	}) < 0
}
