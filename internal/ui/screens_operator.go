package ui

import "time"

// operatorLimit is how long an operator's screen stays without a touch.
const operatorLimit = 2 * time.Minute

// The commands of the operator screen.
var (
	cmdOperator  = Command{Name: "operator"}
	cmdOpLogin   = Command{Name: "op_login", Args: []Arg{{Name: "id"}, {Name: "code", Secret: true}}}
	cmdOpQueue   = Command{Name: "op_queue"}
	cmdOpPage    = Command{Name: "op_page", Args: []Arg{{Name: "to"}}}
	cmdOpPick    = Command{Name: "op_pick", Args: []Arg{{Name: "number"}}}
	cmdOpAct     = Command{Name: "op_act", Args: []Arg{{Name: "act"}, {Name: "evidence"}, {Name: "note"}}}
	cmdOpTest    = Command{Name: "op_test"}
	cmdOpDrain   = Command{Name: "op_drain"}
	cmdOpClose   = Command{Name: "op_close"}
	cmdOpServe   = Command{Name: "op_serve"}
	cmdOpRestart = Command{Name: "op_restart"}
	cmdOpExit    = Command{Name: "op_exit"}
)

// operatorScreens are for those who look after the kiosk. They are come to from
// ATTRACT and OUT_OF_SERVICE alone, where no customer's session is open, and end two
// minutes after the last touch, like a customer's by a wipe.
var operatorScreens = []Screen{
	{
		State: OpLogin, Limit: time.Minute, Idle: true, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdOpLogin, cmdStop},
		Texts: Texts{
			"title":             {"Layar operator", "Operator screen"},
			"body":              {"Hanya untuk petugas yang merawat mesin ini. Setiap percobaan dicatat.", "Only for those who look after this machine. Every attempt is recorded."},
			"id":                {"Nomor operator", "Operator number"},
			"code":              {"Kode sekali pakai", "One-time code"},
			"code.hint":         {"6 angka dari aplikasi autentikator, atau kode pemulihan dari kertas", "6 digits from the authenticator, or a recovery code from paper"},
			"do.letters":        {"Kode pemulihan", "Recovery code"},
			"do.digits":         {"Kode 6 angka", "6-digit code"},
			"do.op_login":       {"Masuk", "Log in"},
			"notice.wrong":      {"Nomor dan kode ini tidak cocok, atau kodenya sudah dipakai. Tunggu kode berikutnya.", "This number and code do not match, or the code was used before. Wait for the next one."},
			"notice.locked":     {"Terlalu banyak kode salah. Tunggu seperempat jam.", "Too many wrong codes. Wait a quarter of an hour."},
			"notice.unrecorded": {"Tidak ada yang dapat masuk: catatan pengawasan tidak dapat ditulis. Lihat log agen.", "Nobody can be let in: it cannot be recorded. Look at the agent's log."},
		},
	},
	{
		State: OpHome, Limit: operatorLimit, Idle: true, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdOpQueue, cmdOpTest, cmdOpDrain, cmdOpExit},
		Texts: Texts{
			"title":        {"Status mesin", "Machine status"},
			"body":         {"Diperbarui setiap beberapa detik. Tidak ada data nasabah di sini.", "Updated every few seconds. There is no customer data here."},
			"version":      {"Versi", "Version"},
			"uptime":       {"Menyala sejak", "Running since"},
			"token":        {"Token", "Token"},
			"clock":        {"Jam", "Clock"},
			"clock.kept":   {"sinkron", "synchronised"},
			"clock.loose":  {"tidak sinkron: periksa layanan waktu", "not synchronised: check the time service"},
			"disk":         {"Ruang disk", "Disk space"},
			"disk.free":    {"{n} MB kosong", "{n} MB free"},
			"audit":        {"Catatan audit", "Audit record"},
			"queue":        {"Permintaan", "Requests"},
			"queue.none":   {"tidak ada yang terbuka", "nothing is open"},
			"queue.closed": {"jurnal tidak terbuka", "the journal is not open"},
			"fine":         {"baik", "OK"},
			"up":           {"tersambung", "reachable"},
			"unknown":      {"belum diketahui", "not known yet"},
			"down":         {"tidak terjangkau", "not reachable"},
			"held":         {"ditahan", "held"},
			"next":         {"coba lagi {time}", "next try {time}"},
			"recovery":     {"Masuk dengan kode pemulihan; tersisa {n}.", "Logged in with a recovery code; {n} are left."},
			"looking":      {"Sedang memeriksa…", "Checking…"},
			"do.op_queue":  {"Antrean", "Queue"},
			"do.op_test":   {"Uji layar", "Test screen"},
			"do.op_drain":  {"Henti, mulai ulang", "Stop, restart"},
		},
	},
	{
		State: OpQueue, Limit: operatorLimit, Idle: true, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdOpPick, cmdOpPage, cmdBack, cmdOpExit},
		Texts: Texts{
			"title":   {"Antrean", "Queue"},
			"body":    {"Yang perlu ditangani orang ada di atas.", "What needs a person comes first."},
			"none":    {"Tidak ada yang menunggu dan tidak ada yang diragukan.", "Nothing is waiting and nothing is in doubt."},
			"pages":   {"Halaman {at} dari {of}", "Page {at} of {of}"},
			"do.next": {"Berikutnya", "Next"},
			"do.last": {"Sebelumnya", "Previous"},
			"age":     {"umur {time}", "age {time}"},
		},
	},
	{
		State: OpRequest, Limit: operatorLimit, Idle: true, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdOpAct, cmdBack, cmdOpExit},
		Texts: Texts{
			"title":          {"Permintaan", "Request"},
			"body":           {"Setiap tindakan dicatat dengan nama Anda dan alasannya.", "Every action is recorded with your name and the reason."},
			"state":          {"Status", "Status"},
			"why":            {"Sebab", "Reason"},
			"created":        {"Diminta", "Requested"},
			"next":           {"Diperiksa lagi", "Next check"},
			"none":           {"Tidak ada yang dapat dilakukan di sini.", "There is nothing to do here."},
			"choose":         {"Apa buktinya?", "What is the evidence?"},
			"ticket":         {"Nomor tiket (boleh kosong)", "Ticket number (may be empty)"},
			"do.inquire":     {"Tanyakan kepada penyedia", "Ask the provider"},
			"do.retry":       {"Kirim sekarang", "Send it now"},
			"do.cancel":      {"Batalkan", "Cancel it"},
			"do.succeeded":   {"Tutup sebagai berhasil", "Close as succeeded"},
			"do.rejected":    {"Tutup sebagai ditolak", "Close as rejected"},
			"do.release":     {"Lepas penahanan", "Lift the hold"},
			"do.op_act":      {"Lakukan: {act}", "Do it: {act}"},
			"do.other":       {"Tindakan lain", "Another action"},
			"notice.done":    {"Sudah dilakukan dan dicatat.", "Done and recorded."},
			"notice.refused": {"Tidak dilakukan.", "It was not done."},
		},
	},
	{
		State: OpTest, Limit: operatorLimit, Idle: true, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdBack, cmdOpExit},
		Texts: Texts{
			"title":    {"Uji layar dan suara", "Test screen and sound"},
			"body":     {"Sentuh setiap kotak sampai semuanya berubah. Setiap warna harus rata.", "Touch every field until all have changed. Each colour must be even."},
			"left":     {"Kotak tersisa: {n}", "Fields left: {n}"},
			"field":    {"Kotak {n}", "Field {n}"},
			"all":      {"Semua kotak menjawab.", "Every field answers."},
			"do.sound": {"Bunyikan nada", "Play the tones"},
		},
	},
	{
		State: OpDrain, Limit: operatorLimit, Idle: true, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdOpClose, cmdOpServe, cmdOpRestart, cmdBack, cmdOpExit},
		Texts: Texts{
			"title":          {"Hentikan atau nyalakan ulang", "Stop or restart"},
			"body":           {"Setelah dihentikan, mesin tidak menerima permintaan baru; yang sudah diterima tetap dikirim. Penghentian berlaku sampai dibuka lagi atau agen menyala ulang.", "While stopped, the machine takes no new requests; those already taken are still sent. This lasts until you open it again or the agent restarts."},
			"serving":        {"Menerima permintaan baru", "Taking new requests"},
			"stopped":        {"Tidak menerima permintaan baru", "Not taking new requests"},
			"sending":        {"Sedang dikirim", "Being sent"},
			"open":           {"Belum selesai", "Not finished"},
			"quiet":          {"Tidak ada yang sedang dikirim dan tidak ada yang terbuka.", "Nothing is being sent and nothing is open."},
			"do.op_close":    {"Hentikan permintaan baru", "Take no new requests"},
			"do.op_serve":    {"Buka lagi", "Open again"},
			"do.op_restart":  {"Nyalakan ulang agen", "Restart the agent"},
			"do.sure":        {"Ya, nyalakan ulang sekarang", "Yes, restart it now"},
			"notice.refused": {"Tidak dilakukan.", "It was not done."},
			"notice.restart": {"Agen menyala ulang.", "The agent restarts."},
		},
	},
	{
		State: OpExit, Limit: 5 * time.Second, Then: Attract, Wipes: true, Tone: ToneDone,
		Texts: Texts{
			"title": {"Layar operator ditutup", "The operator screen is closed"},
			"body":  {"Layar ini dibersihkan sekarang.", "This screen is cleared now."},
		},
	},
}

// operatorTexts are of several of the operator's screens.
var operatorTexts = Texts{
	"do.operator": {"Layar operator", "Operator screen"},
	"do.op_page":  {"Halaman", "Page"},
	"do.op_pick":  {"Buka", "Open"},
	"do.op_exit":  {"Keluar", "Log out"},

	"evidence.portal":   {"Terlihat di portal penyedia", "Seen in the provider's portal"},
	"evidence.phone":    {"Penyedia mengatakannya lewat telepon", "The provider said so on the phone"},
	"evidence.mail":     {"Penyedia menulisnya", "The provider wrote so"},
	"evidence.customer": {"Nasabah memintanya di sini", "The customer asked for it here"},
	"evidence.mended":   {"Gangguannya sudah diperbaiki", "The fault has been fixed"},

	"state.queued":     {"menunggu", "queued"},
	"state.sending":    {"sedang dikirim", "being sent"},
	"state.pending":    {"diproses penyedia", "pending"},
	"state.in_doubt":   {"diragukan", "in doubt"},
	"state.unresolved": {"tidak terjawab", "unresolved"},
	"state.succeeded":  {"berhasil", "succeeded"},
	"state.rejected":   {"ditolak", "rejected"},
	"state.expired":    {"kedaluwarsa", "expired"},
	"state.cancelled":  {"dibatalkan", "cancelled"},
	"state.unreadable": {"tidak terbaca", "unreadable"},

	"advice.queued":           {"Akan terkirim sendiri begitu sambungan ada. Belum ada yang dikirim bila masih dapat dibatalkan.", "It goes out by itself once the line is up. Nothing was sent where it can still be cancelled."},
	"advice.sending":          {"Tunggu: sedang dikirim.", "Wait: it is being sent."},
	"advice.pending":          {"Penyedia atau nasabah masih mengerjakannya. Biarkan saja.", "The provider or the customer is at it. Leave it alone."},
	"advice.in_doubt":         {"Agen sedang menanyakannya kepada penyedia. Jangan ulangi di tempat lain.", "The agent is asking the provider about it. Do not repeat it elsewhere."},
	"advice.in_doubt.unasked": {"Penyedia tidak dapat ditanyai. Cari tahu hasilnya di portal penyedia, lalu tutup.", "The provider cannot be asked. Find out in the provider's portal, then close it."},
	"advice.unresolved":       {"Cari tahu hasilnya dari penyedia, lalu tutup sebagai berhasil atau ditolak.", "Find out from the provider what became of it, and close it as succeeded or rejected."},
	"advice.succeeded":        {"Selesai.", "Finished."},
	"advice.rejected":         {"Selesai. Nasabah dapat meminta lagi.", "Finished. The customer may ask again."},
	"advice.expired":          {"Selesai. Nasabah dapat meminta lagi.", "Finished. The customer may ask again."},
	"advice.cancelled":        {"Selesai. Nasabah dapat meminta lagi.", "Finished. The customer may ask again."},
	"advice.unreadable":       {"Catatannya tidak terbuka. Simpan salinan jurnal untuk pembuat dan tanyakan kepada penyedia.", "Its record does not open. Keep a copy of the journal for the vendor and ask the provider."},

	"OUT_OF_SERVICE.hint.maintenance": {"Operator menghentikan mesin ini; buka lagi di layar operator.", "An operator stopped this machine; open it again on the operator screen."},
}
