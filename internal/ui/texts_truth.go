package ui

// truthTexts are variants of screens' texts, by their whole keys, for what is true
// of one cause and not of another: why a provider cannot be asked, who refused a
// code, whether a result will ever be known here.
var truthTexts = Texts{
	// An earlier request of the same customer for the same thing was sent, and nobody knows its result.
	"REVIEW.doubt": {"Perhatian: permintaan Anda sebelumnya, nomor {earlier}, sudah terkirim dan hasilnya belum diketahui. Jika dikirim lagi, hal yang sama mungkin terjadi dua kali. Tanyakan dulu kepada petugas.",
		"Note: your earlier request, number {earlier}, was sent and its result is not known. Sending again may do the same thing twice. Please ask staff first."},

	"OFFER_QUEUE.title.provider":       {"Penyedia layanan belum bisa menerima. Belum ada yang dikirim.", "The provider cannot take it right now. Nothing has been sent."},
	"OFFER_QUEUE.body.provider":        {"Kami dapat menyimpan permintaan ini dan mengirimnya begitu penyedia bisa menerimanya, paling lama {minutes} menit lagi. Sesudah itu permintaan dihapus dan tidak dikirim.", "We can save this request and send it as soon as the provider can take it, for {minutes} minutes at most. After that it is dropped and never sent."},
	"OFFER_QUEUE.title.throttled":      {"Penyedia layanan sedang sibuk. Belum ada yang dikirim.", "The provider is busy. Nothing has been sent."},
	"OFFER_QUEUE.body.throttled":       {"Penyedia meminta kami menunggu. Kami dapat menyimpan permintaan ini dan mengirimnya sesudah itu, paling lama {minutes} menit lagi. Sesudah itu permintaan dihapus dan tidak dikirim.", "The provider asked us to wait. We can save this request and send it after that, for {minutes} minutes at most. Then it is dropped and never sent."},
	"OFFER_QUEUE.title.link_untrusted": {"Sambungan belum dapat dipastikan aman. Belum ada yang dikirim.", "The connection could not be confirmed as safe. Nothing has been sent."},
	"OFFER_QUEUE.body.link_untrusted":  {"Kami tidak mengirim lewat sambungan seperti itu. Kami dapat menyimpan permintaan ini selama {minutes} menit; jika sampai saat itu belum aman, permintaan dihapus dan tidak dikirim. Petugas dapat membantu Anda.", "We send nothing over such a connection. We can save this request for {minutes} minutes; if it is not safe by then, it is dropped and never sent. Staff can help you."},

	"FAIL.title.provider_unavailable": {"Tidak bisa sekarang. Tidak ada yang disimpan.", "Not possible now. Nothing was kept."},
	"FAIL.body.provider_unavailable":  {"Menunggu di sini tidak membantu. Silakan minta bantuan petugas, atau coba lagi lain waktu.", "Waiting here would not help. Please ask staff, or come back another time."},
	"reason.provider_unavailable":     {"Layanan penyedia ini sedang tidak dapat dipakai dari mesin ini.", "This provider's service cannot be used from this machine at the moment."},
	"FAIL.title.not_stored":           {"Permintaan Anda tidak tersimpan", "Your request was not saved"},
	"FAIL.body.not_stored":            {"Permintaan tidak dibuat dan tidak ada yang dikirim. Coba sekali lagi, atau minta bantuan petugas.", "It was not made and nothing was sent. Try once more, or ask staff."},
	"reason.not_stored":               {"Mesin ini tidak dapat mencatatnya.", "This machine could not record it."},
	"FAIL.body.staff_locked":          {"Tunggu seperempat jam, lalu mulai lagi bersama petugas. PIN dan akun Anda tetap seperti semula.", "Wait a quarter of an hour, then start again with staff. Your PIN and account have not changed."},
	"reason.staff_locked":             {"Kode petugas terlalu sering salah, jadi pemeriksaan oleh petugas ditutup sementara.", "There were too many wrong staff codes, so checks by staff are closed for a while."},

	// Where the provider cannot be asked, nobody here is finding anything out.
	"PENDING.body.unasked": {"Jangan ulangi permintaan ini: mungkin sudah berhasil. Penyedia ini tidak dapat kami tanyai tentang hasilnya. Tunjukkan nomor di bawah ini kepada petugas; mereka dapat memeriksanya.", "Do not repeat this request: it may have worked. We cannot ask this provider about the result. Show the number below to staff; they can find out."},
	"PENDING.note.unasked": {"Anda boleh pergi dengan membawa nomor itu. Periksa juga pesan dari penyedia di ponsel Anda.", "You may leave with that number. Also check your phone for a message from the provider."},

	"OTP_BAD.tries":             {"Percobaan yang tersisa: {tries}.", "Tries left: {tries}."},
	"OTP_LOCKED.body.otp_limit": {"Akun Anda tetap terhubung; tidak ada yang berubah. Demi keamanan mesin ini menutup percobaan ini. Anda boleh memulai lagi dari awal dengan kode baru.", "Your account is still linked; nothing has changed. For safety this machine closed the attempt. You may start again from the beginning with a new code."},
	"reason.otp_limit":          {"Kode OTP terlalu sering salah di mesin ini.", "Too many wrong codes were entered at this machine."},

	"COOLDOWN.title.refused": {"Belum bisa diminta lagi", "You cannot ask for this again yet"},
	"COOLDOWN.body.refused":  {"Penyedia layanan menolak permintaan Anda sebelumnya karena terlalu sering. Belum ada permintaan baru yang dibuat.", "The provider refused your earlier request because it was requested too often. No new request was made."},

	"OUT_OF_SERVICE.reason.audit":     {"Catatan pengawasan tidak dapat ditulis.", "The audit record cannot be written."},
	"OUT_OF_SERVICE.reason.disk_full": {"Penyimpanan mesin ini penuh.", "This machine's storage is full."},

	// For staff, in the language of the screen.
	"OUT_OF_SERVICE.hint.token_absent":    {"Periksa apakah perangkat keamanan terpasang; lalu jalankan 'gardu check'.", "See that the security device is plugged in, then run 'gardu check'."},
	"OUT_OF_SERVICE.hint.token_locked":    {"Jangan mencoba PIN lagi. Jalankan 'gardu check' dan hubungi petugas keamanan.", "Try no more PINs. Run 'gardu check' and call the security officer."},
	"OUT_OF_SERVICE.hint.token_unusable":  {"Jalankan 'gardu check' dan ikuti petunjuknya.", "Run 'gardu check' and do what it says."},
	"OUT_OF_SERVICE.hint.keys_missing":    {"Jalankan 'gardu check'; lalu buat atau masukkan kunci yang disebutnya.", "Run 'gardu check', then make or import the keys it names."},
	"OUT_OF_SERVICE.hint.journal":         {"Jangan hapus apa pun. Lihat catatan agen, lalu hubungi operasi lapangan.", "Delete nothing. See the agent's log, then call field operations."},
	"OUT_OF_SERVICE.hint.journal_damaged": {"Jangan hapus apa pun. Lihat catatan agen, lalu hubungi operasi lapangan.", "Delete nothing. See the agent's log, then call field operations."},
	"OUT_OF_SERVICE.hint.configuration":   {"Jalankan 'gardu check' dan perbaiki pengaturan yang disebutnya.", "Run 'gardu check' and correct the setting it names."},
	"OUT_OF_SERVICE.hint.audit":           {"Periksa ruang dan izin tempat catatan pengawasan; layanan kembali sendiri.", "See to the space and the rights of the audit record's folder; service returns by itself."},
	"OUT_OF_SERVICE.hint.disk_full":       {"Kosongkan ruang pada disk mesin ini; layanan kembali sendiri.", "Make room on this machine's disk; service returns by itself."},
	"OUT_OF_SERVICE.hint.no_operations":   {"Jalankan 'gardu check': pengaturan dan kunci tiap penyedia.", "Run 'gardu check': each provider's settings and keys."},
	"OUT_OF_SERVICE.hint.other":           {"Lihat catatan agen di mesin ini.", "See the agent's log on this machine."},
}
