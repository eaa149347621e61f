package ui

import (
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strconv"
)

//go:embed page
var pageFiles embed.FS

// assets are the files of the page, all in memory. They are the same for
// everybody and hold nothing secret.
type assets struct {
	files map[string]asset // by address
	page  *template.Template
}

type asset struct {
	kind string
	body []byte
}

var kinds = map[string]string{
	".js":  "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml",
}

func loadAssets(brand string, pxPerMM float64, times Timeouts) (*assets, error) {
	a := &assets{files: map[string]asset{}}
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		body, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return nil, err
		}
		if e.Name() == "index.html" {
			if a.page, err = template.New("page").Parse(string(body)); err != nil {
				return nil, err
			}
			continue
		}
		kind, ok := kinds[path.Ext(e.Name())]
		if !ok {
			return nil, fmt.Errorf("page file %s has no known kind", e.Name())
		}
		a.files["/"+e.Name()] = asset{kind, body}
	}
	// The scale is a style sheet of its own, since inline styles are forbidden.
	scale := ":root{--mm:" + strconv.FormatFloat(pxPerMM, 'f', 3, 64) + "px}\n"
	a.files["/scale.css"] = asset{kinds[".css"], []byte(scale)}
	table, err := json.Marshal(tableDoc(brand, times))
	if err != nil {
		return nil, err
	}
	a.files["/screens.json"] = asset{"application/json", table}
	return a, nil
}

// tableJSON is the screen table as pages get it.
type tableJSON struct {
	Protocol string                     `json:"protocol"`
	Brand    string                     `json:"brand"`
	Tick     int64                      `json:"tick_ms"`
	Screens  []screenJSON               `json:"screens"`
	Texts    map[Lang]map[string]string `json:"texts"`
	Everyone []Command                  `json:"commands"` // of every screen
}

type screenJSON struct {
	State    State     `json:"state"`
	Limit    int64     `json:"limit_ms"`
	Ask      bool      `json:"ask"`
	Then     State     `json:"then"`
	Wipes    bool      `json:"wipes"`
	Tone     Tone      `json:"tone"`
	Commands []Command `json:"commands"`
}

func tableDoc(brand string, times Timeouts) *tableJSON {
	doc := &tableJSON{
		Protocol: Subprotocol, Brand: brand, Tick: times.Tick.Milliseconds(), Everyone: everyScreen,
		Texts: map[Lang]map[string]string{Indonesian: {}, English: {}},
	}
	for _, row := range Screens() {
		doc.Screens = append(doc.Screens, screenJSON{
			row.State, times.limit(row.State).Milliseconds(), row.Ask, row.Then, row.Wipes, row.Tone, row.Commands,
		})
	}
	for key, t := range textTable {
		doc.Texts[Indonesian][key], doc.Texts[English][key] = t.ID, t.EN
	}
	return doc
}
