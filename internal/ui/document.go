package ui

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"gardu/internal/txn"
)

// sessionDoc says what is on the screen. Texts are keys of the text table.
type sessionDoc struct {
	Session   string            `json:"session"`
	State     State             `json:"state"`
	Screen    string            `json:"screen"` // this showing of the state; commands name it
	Lang      Lang              `json:"lang"`
	Tone      Tone              `json:"tone"`
	Title     string            `json:"title"`
	Lines     []string          `json:"lines"`
	Notice    string            `json:"notice,omitempty"`
	Params    map[string]string `json:"params,omitempty"`
	Commands  []string          `json:"commands"`
	Busy      bool              `json:"busy,omitempty"`
	Overlay   *overlayDoc       `json:"overlay,omitempty"`
	Operation txn.Operation     `json:"operation,omitempty"`
	Steps     *stepsDoc         `json:"steps,omitempty"`
	Menu      []menuDoc         `json:"menu,omitempty"`
	Fields    []fieldDoc        `json:"fields,omitempty"`
	Entry     *fieldDoc         `json:"entry,omitempty"` // the secret to be typed
	Wrong     *wrongDoc         `json:"wrong,omitempty"` // a field refused after its screen was left
	Code      string            `json:"code,omitempty"`
	Reference string            `json:"reference,omitempty"`
	Receipt   *receiptDoc       `json:"receipt,omitempty"`
}

type overlayDoc struct {
	State string `json:"state"`
	Until int64  `json:"until"` // ms of the agent's time
}

type stepsDoc struct {
	At int `json:"at"`
	Of int `json:"of"`
}

type menuDoc struct {
	Operation txn.Operation `json:"operation"`
	Link      string        `json:"link"` // linkOK, linkWaits or linkStops
}

type fieldDoc struct {
	Name   string `json:"name"`
	Min    int    `json:"min"`
	Max    int    `json:"max"`
	Digits bool   `json:"digits"`
	Prefix string `json:"prefix,omitempty"`
	Value  string `json:"value,omitempty"`
}

type wrongDoc struct {
	Field string   `json:"field"`
	Rule  txn.Rule `json:"rule"`
}

type receiptDoc struct {
	QR   *qrDoc       `json:"qr"`
	Rows []receiptRow `json:"rows"`
}

// receiptRow is one line: a text key, and either a value or a text key for it.
type receiptRow struct {
	Label string `json:"label"`
	Value string `json:"value,omitempty"`
	Text  string `json:"text,omitempty"`
	Time  int64  `json:"time,omitempty"`
}

// requestDoc says what is known of the request that is shown.
type requestDoc struct {
	Operation txn.Operation `json:"operation"`
	State     txn.State     `json:"state"`
	Reason    txn.Reason    `json:"reason,omitempty"`
	Provider  string        `json:"provider_code,omitempty"`
	Reference string        `json:"reference"`
	Customer  string        `json:"customer"` // masked
	Step      int           `json:"step"`
	TriesLeft int           `json:"tries_left,omitempty"` // one-time passwords that may still be brought, while one is awaited
	Created   int64         `json:"created"`
	Expires   int64         `json:"expires,omitempty"`    // only while queued
	AwaitTill int64         `json:"await_till,omitempty"` // only while the customer has something to do
	Sent      bool          `json:"sent"`                 // the provider may have seen a call
	Link      *linkDoc      `json:"link,omitempty"`
}

type linkDoc struct {
	Domain string `json:"domain"`
	QR     *qrDoc `json:"qr"` // null where the link does not fit into a QR code
}

type networkDoc struct {
	Offline bool            `json:"offline"` // at least one provider in use is known to be out of reach
	Works   []txn.Operation `json:"works"`
	Waits   []txn.Operation `json:"waits"`
	Stops   []txn.Operation `json:"stops"`
	Links   []linkState     `json:"links"`
}

type linkState struct {
	Provider string     `json:"provider"`
	Known    bool       `json:"known"`
	Up       bool       `json:"up"`
	Held     bool       `json:"held,omitempty"`
	Reason   txn.Reason `json:"reason,omitempty"`
	Since    int64      `json:"since,omitempty"`
	NextTry  int64      `json:"next_try,omitempty"` // while it is not up
}

type cooldownDoc struct {
	Kind  string `json:"kind"` // "cooldown" or "limit"
	Scope string `json:"scope,omitempty"`
	Until int64  `json:"until"`
	Now   int64  `json:"now"` // when this was written; count from the newest frame's now
}

type healthDoc struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// shown is the id of this showing of the screen.
func (d *desk) shown() string { return string(d.s.state) + "." + strconv.Itoa(d.s.showing) }

// publish puts everything on the board.
func (d *desk) publish() {
	docs := map[string]any{
		topicSession:  d.sessionDoc(),
		topicRequest:  d.requestDoc(),
		topicCooldown: d.cooldownDoc(),
		topicHealth:   d.healthDoc(),
	}
	// What links mean changes with their news, and with time by whole seconds: a request's
	// way to the screen does not wait for it.
	if now := time.Now(); d.relinked || now.Sub(d.linkedAt) >= time.Second || now.Before(d.linkedAt) {
		docs[topicNetwork] = d.networkDoc()
		d.relinked, d.linkedAt = false, now
	}
	if d.s.operator != nil || d.visited {
		d.visited = true
		docs[topicOperator] = d.operatorDoc()
	}
	if err := d.board.set(docs); err != nil {
		d.log.Error("screen documents not published", "error", err)
	}
}

func (d *desk) sessionDoc() *sessionDoc {
	s := &d.s
	title, lines := d.words(s.state)
	doc := &sessionDoc{
		Session: s.id, State: s.state, Screen: d.shown(), Lang: s.lang, Tone: d.tone(s.state), Title: title, Lines: lines,
		Notice: s.notice, Commands: d.available(), Busy: d.call != nil, Operation: s.op, Steps: d.steps(),
	}
	if s.overlay != "" {
		doc.Overlay = &overlayDoc{s.overlay, d.clock.at(s.askedAt.Add(d.times.StillThere))}
	}
	if s.noticeOf != nil {
		doc.Wrong = &wrongDoc{s.noticeOf.field, s.noticeOf.rule}
	}
	p := d.policy(s.op)
	switch s.state {
	case Home:
		doc.Menu = d.menu()
	case Ident, Review:
		doc.Fields = fieldDocs(p, s.fields)
		if s.state == Review && s.unresolved != "" {
			doc.Params = map[string]string{"earlier": ShortReference(s.unresolved)}
			doc.Lines = append([]string{string(Review) + ".doubt"}, doc.Lines...)
		}
	case PIN, PINAgain:
		if p != nil && p.Secret != nil {
			doc.Entry = fieldOf(*p.Secret, "")
		}
	case Verify:
		if !d.needsStaff() {
			break
		}
		doc.Entry = &fieldDoc{Name: "code", Min: StaffCodeMin, Max: StaffCodeMax, Digits: true}
	case OpLogin:
		doc.Fields = []fieldDoc{{Name: "operator", Min: 1, Max: operatorIDMax, Digits: true}}
		doc.Entry = &fieldDoc{Name: "code", Min: operatorCodeMin, Max: operatorCodeMax}
	case OfferQueue:
		if p != nil {
			doc.Params = map[string]string{"minutes": strconv.Itoa(int(p.Wait / time.Minute))}
		}
	case OTP, OTPBad:
		doc.Params = map[string]string{"tries": strconv.Itoa(s.request.OTPTriesLeft())}
		if s.state == OTPBad {
			doc.Lines = append(doc.Lines, string(OTPBad)+".tries")
		}
		if p := d.policy(s.request.Operation); p != nil && p.OTP != nil {
			doc.Entry = fieldOf(*p.OTP, "")
		}
	case BindQR:
		if f := d.codeField(); f != nil {
			doc.Entry = fieldOf(*f, "")
		}
	default:
	}
	doc.Code, doc.Reference = d.code(), d.reference()
	if s.state == Receipt {
		doc.Receipt = d.receipt()
	}
	return doc
}

func fieldOf(f txn.Field, value string) *fieldDoc {
	return &fieldDoc{f.Name, f.Min, f.Max, f.Digits, f.Prefix, value}
}

func fieldDocs(p *txn.Policy, values map[string]string) []fieldDoc {
	if p == nil {
		return nil
	}
	docs := make([]fieldDoc, 0, len(p.Fields))
	for _, f := range p.Fields {
		docs = append(docs, *fieldOf(f, values[f.Name]))
	}
	return docs
}

// words picks a screen's title and the lines below it, the most fitting there are.
func (d *desk) words(st State) (title string, lines []string) {
	op, why, variant := string(d.s.op), d.s.reason, d.s.scope
	if r := d.s.request; r != nil {
		op, why, variant = string(r.Operation), string(r.Reason), d.requestVariant(r)
	}
	switch {
	case st == OutOfService:
		why = d.trouble()
	case st == Verify && !d.needsStaff():
		variant = "card"
	}
	keys := []string{textKey(st, "body", variant, why, op), reasonKey(st, txn.Reason(why)), textKey(st, "note", variant, why, op)}
	switch st {
	case Working, OTP, OTPBad, OTPExpired, OTPLocked, BindQR:
		keys[1] = "" // the screen itself says it, or it is over
	default:
	}
	lines = []string{}
	for _, key := range keys {
		if key != "" {
			lines = append(lines, key)
		}
	}
	return textKey(st, "title", variant, why, op), lines
}

// requestVariant tells apart what one screen says of different requests.
func (d *desk) requestVariant(r *txn.Request) string {
	switch r.State {
	case txn.Queued:
		if r.EverSent() {
			return "second"
		}
	case txn.Sending:
		return "sending"
	case txn.Pending:
		if r.Await == "" {
			return "pending"
		}
	case txn.InDoubt:
		if p := d.policy(r.Operation); p == nil || !p.Readback {
			return "unasked"
		}
	case txn.Succeeded, txn.Rejected, txn.Expired, txn.Cancelled, txn.Unresolved:
	}
	return ""
}

// code is what a customer reads to staff.
func (d *desk) code() string {
	st := d.subject()
	why := d.s.reason
	if r := d.s.request; r != nil {
		why = string(r.Reason)
		if why == "" && r.State != txn.Succeeded {
			why = string(r.State)
		}
	}
	switch st {
	case Queued, Pending, Unresolved, Done, Fail, Expired, Cancelled, OTPExpired, OTPLocked, Unsure:
	case Cooldown, Limit, Full:
		why = strings.ToLower(string(st))
	case OutOfService:
		why = d.trouble()
	default:
		return ""
	}
	return shownCode(d.tone(st), why)
}

// reference is the short number of the request, or of its key where nobody knows
// whether there is a request.
func (d *desk) reference() string {
	switch {
	case d.s.request != nil:
		return ShortReference(d.s.request.ID)
	case d.s.state == Unsure, d.s.state == Receipt:
		return ShortReference(d.s.key)
	}
	return ""
}

// ShortReference is the end of a request's id (or of its key) in two groups of
// four, short enough to be read over the phone. Staff find the request by it.
func ShortReference(id string) string {
	if len(id) < 8 {
		return id
	}
	id = id[len(id)-8:]
	return id[:4] + "-" + id[4:]
}

// steps counts the customer's way for the operation.
func (d *desk) steps() *stepsDoc {
	p := d.policy(d.s.op)
	if p == nil {
		return nil
	}
	way := []State{Consent, Ident}
	if d.needsStaff() || p.CardVerify {
		way = append(way, Verify)
	}
	if p.Secret != nil {
		way = append(way, PIN, PINAgain)
	}
	way = append(way, Review)
	at := slices.Index(way, d.s.state)
	if at < 0 {
		return nil
	}
	return &stepsDoc{at + 1, len(way)}
}

// What a link means for an operation.
const (
	linkOK    = "ok"
	linkWaits = "waits" // out of reach; a request can be kept and sent later
	linkStops = "stops" // out of reach, and the operation may not wait
)

func (d *desk) linkWord(p *txn.Policy) string {
	switch {
	case !d.linkDown(p):
		return linkOK
	case p.HoldOffline && !d.hopeless(p):
		return linkWaits
	}
	return linkStops
}

// reasonUnavailable is why nothing is kept for a provider for which waiting would be
// of no use.
const reasonUnavailable = "provider_unavailable"

// hopeless reports whether a request for a provider would only wait to be dropped: a
// person has to mend something first, or the provider is not tried before the
// request's time is over.
func (d *desk) hopeless(p *txn.Policy) bool {
	l := d.links[p.Provider]
	return l.Held || time.Until(l.NextTry) >= p.Wait
}

// linkCause is why a provider that is not up cannot be asked, where it is not the
// connection; a variant of texts.
func (d *desk) linkCause(p *txn.Policy) string {
	switch l := d.links[p.Provider]; l.Reason {
	case "", txn.ReasonLinkDown, txn.ReasonNoAnswer:
		return ""
	case txn.ReasonThrottled, txn.ReasonLinkUntrusted:
		return string(l.Reason)
	default:
		return "provider"
	}
}

// offered reports whether an operation can be chosen: one that staff confirm needs
// somebody who knows the staff.
func (d *desk) offered(p *txn.Policy) bool {
	return p.Enabled && (!p.StaffVerify || d.staff != nil)
}

func (d *desk) menu() []menuDoc {
	var items []menuDoc
	for i := range d.policies {
		if p := &d.policies[i]; d.offered(p) {
			items = append(items, menuDoc{p.Operation, d.linkWord(p)})
		}
	}
	return items
}

func (d *desk) requestDoc() *requestDoc {
	r := d.s.request
	if r == nil {
		return nil
	}
	doc := &requestDoc{
		Operation: r.Operation, State: r.State, Reason: r.Reason, Provider: r.Code, Reference: ShortReference(r.ID),
		Step: r.Step, Created: d.clock.at(r.Created), Sent: r.EverSent() || r.State == txn.Sending,
	}
	if p := d.policy(r.Operation); p != nil {
		doc.Customer = mask(r.Fields[p.Identity])
	}
	if r.State == txn.Queued {
		doc.Expires = d.clock.at(r.Expires)
	}
	if r.State == txn.Pending && r.Await != "" {
		doc.AwaitTill = d.clock.at(r.AwaitTill)
	}
	if r.Await == txn.AwaitOTP {
		doc.TriesLeft = r.OTPTriesLeft()
	}
	if d.s.state == BindQR && d.s.overlay == "" {
		doc.Link = &linkDoc{r.Data[txn.DataLinkDomain], d.linkQR(r.Data[txn.DataLinkURL])}
	}
	return doc
}

// linkQR draws the link once and not at every publication.
func (d *desk) linkQR(url string) *qrDoc {
	if d.s.qrOf != url {
		qr, err := drawQR(url)
		if err != nil {
			d.log.Error("customer's link does not fit into a QR code", "session", d.s.id, "length", len(url))
		}
		d.s.qr, d.s.qrOf = qr, url
	}
	return d.s.qr
}

// mask leaves as much of an identifier as its owner needs to recognise it.
func mask(v string) string {
	head, tail := min(4, len(v)/3), min(3, len(v)/4)
	return v[:head] + strings.Repeat("•", len(v)-head-tail) + v[len(v)-tail:]
}

func (d *desk) networkDoc() *networkDoc {
	doc := &networkDoc{Works: []txn.Operation{}, Waits: []txn.Operation{}, Stops: []txn.Operation{}, Links: []linkState{}}
	for i := range d.policies {
		p := &d.policies[i]
		if !d.offered(p) {
			continue
		}
		switch d.linkWord(p) {
		case linkOK:
			doc.Works = append(doc.Works, p.Operation)
		case linkWaits:
			doc.Waits = append(doc.Waits, p.Operation)
		default:
			doc.Stops = append(doc.Stops, p.Operation)
		}
	}
	doc.Offline = len(doc.Waits)+len(doc.Stops) > 0
	for _, l := range d.links {
		doc.Links = append(doc.Links, d.linkState(l))
	}
	slices.SortFunc(doc.Links, func(a, b linkState) int { return strings.Compare(a.Provider, b.Provider) })
	return doc
}

func (d *desk) linkState(l txn.Link) linkState {
	s := linkState{Provider: l.Provider, Known: l.Known, Up: l.Up, Held: l.Held, Reason: l.Reason, Since: d.clock.at(l.Since)}
	if l.Known && !l.Up && !l.NextTry.IsZero() {
		s.NextTry = d.clock.at(l.NextTry)
	}
	return s
}

func (d *desk) cooldownDoc() *cooldownDoc {
	switch {
	case d.s.state == Cooldown:
		return &cooldownDoc{"cooldown", "customer", d.clock.at(d.s.until), d.clock.at(d.s.opened)}
	case d.s.state == Limit:
		return &cooldownDoc{"limit", d.s.scope, d.clock.at(d.s.until), d.clock.at(d.s.opened)}
	case d.s.state == Done && !d.s.request.Cooldown.IsZero():
		return &cooldownDoc{"cooldown", "customer", d.clock.at(d.s.request.Cooldown), d.clock.at(d.s.opened)}
	}
	return nil
}

func (d *desk) healthDoc() *healthDoc {
	why := d.trouble()
	if why == "" {
		return &healthDoc{OK: true}
	}
	// English is the language of the agent's own hints, which know more of the case.
	hint := d.health.Hint
	if key := textKey(OutOfService, "hint", why, "other"); hint == "" || d.s.lang != English {
		hint = say(d.s.lang, key)
	}
	if why == "starting" {
		hint = "" // it is over in a moment
	}
	return &healthDoc{Reason: why, Hint: hint}
}
