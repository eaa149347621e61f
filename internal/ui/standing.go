package ui

// Standing is how things stand at the screen.
type Standing struct {
	Connected bool // a page is connected
	Session   bool // a customer may be in the middle of something
}

// Standing tells whether restarting the agent now would take a screen from under
// a customer's hand.
func (s *Server) Standing() Standing {
	var st Standing
	s.desk.do(func() {
		st.Connected = s.desk.screens > 0
		switch s.desk.s.state {
		case Boot, Attract, OutOfService:
		default:
			// Without a page nobody is there, whatever was shown last.
			st.Session = st.Connected
		}
	})
	return st
}
