package ui

// CheckFrame parses a frame as the server does.
func CheckFrame(b []byte) error {
	f, err := parseFrame(b)
	if f.command != nil {
		f.command.wipe()
	}
	return err
}

// ParsePost reads the body of a POST as serveCode does.
func ParsePost(b []byte) (session, code string, err error) {
	c, err := parsePost(b)
	if err != nil {
		return "", "", err
	}
	return c.session, string(c.secret.Bytes()), nil
}
