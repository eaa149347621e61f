package ui

import (
	"strconv"
	"strings"
	"time"

	"rsc.io/qr"
)

// qrDoc is a QR code as the path of an SVG, one unit per module, without the
// white margin of four modules that the page must leave around it.
type qrDoc struct {
	Size int    `json:"size"`
	Path string `json:"path"`
}

// drawQR encodes at level L: the code is read from a bright screen, where large
// modules help more than redundancy.
func drawQR(text string) (*qrDoc, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return nil, err
	}
	var path strings.Builder
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			from := x
			for x < code.Size && code.Black(x, y) {
				x++
			}
			if w := strconv.Itoa(x - from); x > from {
				path.WriteString("M" + strconv.Itoa(from) + " " + strconv.Itoa(y) + "h" + w + "v1h-" + w + "z")
			}
		}
	}
	return &qrDoc{code.Size, path.String()}, nil
}

// receipt is what the customer takes along: no PIN, no identifier, no link.
func (d *desk) receipt() *receiptDoc {
	s := &d.s
	op, when := s.op, s.opened
	if s.request != nil {
		op, when = s.request.Operation, s.request.Created
	}
	status, _ := d.words(s.from)
	rows := []receiptRow{
		{Label: "RECEIPT.service", Text: "operation." + string(op)},
		{Label: "RECEIPT.status", Text: status},
		{Label: "RECEIPT.reference", Value: d.reference()},
		{Label: "RECEIPT.code", Value: d.code()},
		{Label: "RECEIPT.time", Time: d.clock.at(when)},
	}
	var b strings.Builder
	b.WriteString(d.brand)
	for _, r := range rows {
		value := r.Value
		switch {
		case r.Text != "":
			value = say(s.lang, r.Text)
		case r.Time != 0:
			value = time.UnixMilli(r.Time).Format("2006-01-02 15:04")
		}
		b.WriteString("\n" + say(s.lang, r.Label) + ": " + value)
	}
	code, err := drawQR(b.String())
	if err != nil {
		d.log.Error("receipt does not fit into a QR code", "session", s.id, "length", b.Len())
	}
	return &receiptDoc{code, rows}
}
