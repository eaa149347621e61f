package ui

import (
	"cmp"
	"slices"
	"strings"

	"gardu/internal/txn"
)

// operatorDoc is what the operator screen shows. It is there only while an operator's
// visit goes on; nothing of a customer and nothing secret is in it.
type operatorDoc struct {
	Operator  string            `json:"operator"`
	Method    string            `json:"method"`
	Recovery  int               `json:"recovery_left"`
	Looked    bool              `json:"looked"` // false until the kiosk was looked at for the first time
	Version   string            `json:"version,omitempty"`
	Kiosk     uint32            `json:"kiosk,omitempty"`
	Started   int64             `json:"started,omitempty"`
	Token     string            `json:"token,omitempty"` // text key of what is wrong with it
	Clock     bool              `json:"clock"`           // a time service keeps it
	FreeMB    int64             `json:"free_mb"`
	Audit     uint64            `json:"audit"`
	Serving   bool              `json:"serving"`
	Draining  bool              `json:"draining"`
	Open      int               `json:"open"`    // requests that are not finished
	Sending   int               `json:"sending"` // of which a call is under way
	Counts    map[txn.State]int `json:"counts"`
	Providers []linkState       `json:"providers"`
	Page      int               `json:"page,omitempty"`
	Pages     int               `json:"pages,omitempty"`
	Rows      []operatorRowDoc  `json:"rows,omitzero"` // on OP_QUEUE, also where there are none
	Request   *operatorRowDoc   `json:"request,omitempty"`
	Acts      []string          `json:"acts,omitzero"` // on OP_REQUEST, also where there are none
	Evidence  []string          `json:"evidence,omitzero"`
	NoteMax   int               `json:"note_max,omitempty"`
	Says      string            `json:"says,omitempty"` // what to do, of an order that was refused
}

type operatorRowDoc struct {
	Number    string        `json:"number"`
	Operation txn.Operation `json:"operation,omitempty"`
	State     txn.State     `json:"state"`
	Reason    txn.Reason    `json:"reason,omitempty"`
	Code      string        `json:"code,omitempty"`
	Created   int64         `json:"created,omitempty"`
	NextTry   int64         `json:"next_try,omitempty"`
	Advice    string        `json:"advice"` // text key
}

func (d *desk) operatorDoc() *operatorDoc {
	o := d.s.operator
	if o == nil {
		return nil
	}
	doc := &operatorDoc{
		Operator: o.id, Method: o.login.Method, Recovery: o.login.Recovery, Draining: d.draining, Says: o.says,
		Counts: map[txn.State]int{}, Providers: []linkState{},
	}
	for _, l := range d.links {
		doc.Providers = append(doc.Providers, d.linkState(l))
	}
	slices.SortFunc(doc.Providers, func(a, b linkState) int { return strings.Compare(a.Provider, b.Provider) })
	if v := o.view; v != nil {
		doc.Looked, doc.Version, doc.Kiosk, doc.Started, doc.Clock = true, v.Version, v.Kiosk, d.clock.at(v.Started), v.Clock
		doc.FreeMB, doc.Audit, doc.Serving = v.Free>>20, v.Audit, v.Serving
		if v.Token != "" {
			doc.Token = cmp.Or(textKey(OutOfService, "reason", v.Token), textKey(OutOfService, "reason", "other"))
		}
		for st, n := range v.Counts {
			doc.Counts[st] = n
			if st.Open() {
				doc.Open += n
			}
		}
		doc.Sending = v.Counts[txn.Sending]
	}
	d.operatorRows(doc)
	return doc
}

func (d *desk) operatorRows(doc *operatorDoc) {
	o := d.s.operator
	switch d.s.state {
	case OpQueue:
		doc.Page, doc.Pages, doc.Rows = o.page+1, o.pages(), []operatorRowDoc{}
		if o.view == nil {
			return
		}
		from := min(o.page*operatorPage, len(o.view.Rows))
		for i := range o.view.Rows[from:min(from+operatorPage, len(o.view.Rows))] {
			doc.Rows = append(doc.Rows, *d.operatorRow(&o.view.Rows[from+i]))
		}
	case OpRequest:
		doc.Request, doc.Acts, doc.Evidence, doc.NoteMax = d.operatorRow(o.row), d.acts(), evidences, operatorNoteMax
	default:
	}
}

func (d *desk) operatorRow(r *OperatorRow) *operatorRowDoc {
	row := &operatorRowDoc{
		Number: ShortReference(r.ID), Operation: r.Operation, State: r.State, Reason: r.Reason, Code: r.Code,
		Created: d.clock.at(r.Created), Advice: "advice." + string(r.State),
	}
	if r.State.Open() {
		row.NextTry = d.clock.at(r.NextTry)
	}
	if p := d.policy(r.Operation); r.State == txn.InDoubt && p != nil && !p.Readback {
		row.Advice += ".unasked"
	}
	if _, ok := textTable[row.Advice]; !ok {
		row.Advice = "advice.unreadable"
	}
	return row
}
