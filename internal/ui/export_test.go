package ui

// CheckFrame parses a frame as the server does.
func CheckFrame(b []byte) error {
	f, err := parseFrame(b)
	if f.command != nil {
		f.command.wipe()
	}
	return err
}
