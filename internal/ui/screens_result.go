package ui

import "time"

// resultScreens are the screens of a request, and of a request that did not come about.
var resultScreens = []Screen{
	{
		// The design gives the first answer 15 s on this screen; then the truth of
		// that moment is shown, whatever it is.
		State: Working, Limit: 15 * time.Second, Then: Pending, Shows: true, Tone: ToneWorking,
		Texts: Texts{
			"title":              {"Tersimpan, segera dikirim", "Saved, about to be sent"},
			"body":               {"Mohon tunggu sebentar. Layar ini berubah sendiri.", "Please wait a moment. This screen changes by itself."},
			"title.sending":      {"Sedang dikirim", "Sending"},
			"body.sending":       {"Kami menunggu jawaban. Layar ini berubah sendiri.", "We are waiting for the answer. This screen changes by itself."},
			"stage.saved":        {"Permintaan tersimpan", "Request saved"},
			"stage.saved.second": {"Kode tersimpan", "Code saved"},
			"stage.sent":         {"Dikirim", "Sent"},
			"stage.answer":       {"Jawaban", "Answer"},
			"stage.done":         {"sudah", "done"},
			"stage.current":      {"sedang berjalan", "under way"},
			"stage.next":         {"belum", "not yet"},
		},
	},
	{
		State: Queued, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneQueued,
		Commands: []Command{cmdReceipt, cmdCancel, cmdFinish},
		Texts: Texts{
			"title":        {"Tersimpan. Belum ada yang dikirim.", "Saved. Nothing has been sent yet."},
			"body":         {"Permintaan Anda menunggu dan dikirim sendiri begitu bisa. Jika sampai batas waktu belum bisa, permintaan dihapus dan tidak ada yang berubah.", "Your request waits and is sent by itself as soon as it can be. If that is not possible in time, it is dropped and nothing changes."},
			"title.second": {"Kode Anda tersimpan. Belum dikirim.", "Your code is saved. It has not been sent yet."},
			"body.second":  {"Kode dikirim begitu bisa, selama masih berlaku. Sampai saat itu tidak ada yang berubah.", "The code is sent as soon as it can be, while it is still valid. Until then nothing changes."},
			"until":        {"Dikirim paling lambat", "Sent at the latest by"},
			"do.cancel":    {"Batalkan permintaan", "Cancel the request"},
			"do.finish":    {"Biarkan menunggu, selesai", "Let it wait, I am done"},

			"notice.unsure":   {"Belum pasti apakah pembatalan tersimpan. Mohon tunggu; layar ini berubah sendiri.", "It is not certain yet that the cancellation was saved. Please wait; this screen changes by itself."},
			"notice.too_late": {"Sudah terlambat untuk membatalkan: permintaan sudah mulai dikirim.", "Too late to cancel: the request is already on its way."},
			"notice.earlier":  {"Ini permintaan Anda yang tadi; masih berjalan.", "This is your earlier request; it is still open."},
		},
	},
	{
		// A customer may wait half a minute at a time, or leave with the reference.
		State: Pending, Limit: 30 * time.Second, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneDoubt,
		Commands: []Command{cmdReceipt, cmdWait, cmdFinish},
		Texts: Texts{
			"title":           {"Sudah dikirim, tetapi hasilnya belum diketahui", "It was sent, but the result is not known yet"},
			"body":            {"Jangan ulangi permintaan ini: mungkin sudah berhasil. Kami masih mencari tahu hasilnya.", "Do not repeat this request: it may have worked. We are still finding out."},
			"title.sending":   {"Sedang dikirim, jawabannya belum datang", "It is being sent; no answer yet"},
			"body.sending":    {"Jangan ulangi permintaan ini. Jawabannya lebih lama dari biasanya.", "Do not repeat this request. The answer is taking longer than usual."},
			"title.pending":   {"Sudah diterima, sedang diproses", "It was received and is being processed"},
			"body.pending":    {"Jangan ulangi permintaan ini: hasilnya menyusul.", "Do not repeat this request: the result will follow."},
			"note":            {"Anda boleh menunggu, atau pergi dengan membawa nomor di bawah ini.", "You may wait, or leave with the number below."},
			"do.wait":         {"Saya tunggu", "I will wait"},
			"do.finish":       {"Selesai", "I am done"},
			"notice.waiting":  {"Baik, mohon tunggu. Layar ini berubah sendiri.", "All right, please wait. This screen changes by itself."},
			"notice.unsure":   {"Belum pasti apakah pembatalan tersimpan. Mohon tunggu; layar ini berubah sendiri.", "It is not certain yet that the cancellation was saved. Please wait; this screen changes by itself."},
			"notice.too_late": {"Sudah terlambat: permintaan sudah mulai dikirim.", "Too late: the request is already on its way."},
			"notice.earlier":  {"Ini permintaan Anda yang tadi; masih berjalan.", "This is your earlier request; it is still open."},
		},
	},
	{
		// The customer is busy with the own phone, so nobody touches this screen.
		State: BindQR, Limit: 2 * time.Minute, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneWaiting,
		Commands: []Command{cmdCode, cmdFinish},
		Texts: Texts{
			"title":   {"Pindai dengan ponsel Anda", "Scan with your own phone"},
			"body":    {"Buka kamera ponsel, arahkan ke kode ini, lalu masukkan PIN Finpay di ponsel Anda. Layar ini berubah sendiri bila sudah selesai.", "Open your phone's camera, point it at this code, and enter your Finpay PIN on your phone. This screen changes by itself when it is done."},
			"domain":  {"Alamat yang harus muncul di ponsel", "The address your phone must show"},
			"left":    {"Kode berlaku", "The code is valid for"},
			"late":    {"Kode ini sudah tidak berlaku. Kami memeriksa hasil terakhir.", "This code is no longer valid. We are checking the final result."},
			"missing": {"Kode QR tidak dapat ditampilkan. Silakan minta bantuan petugas.", "The QR code cannot be shown. Please ask staff."},
			"alt":     {"Kode QR menuju halaman Finpay Anda", "QR code to your Finpay page"},

			"title.code_wanted":   {"Akun terhubung. Satu langkah lagi.", "Your account is linked. One more step."},
			"body.code_wanted":    {"Ketik kode yang tampil di ponsel Anda, agar semua layanan dapat dipakai di sini.", "Type the code that your phone shows, so that every service can be used here."},
			"label":               {"Kode dari ponsel", "Code from the phone"},
			"do.type_code":        {"Ketik kode dari ponsel", "Type the code from the phone"},
			"do.submit_code":      {"Kirim kode", "Send the code"},
			"notice.code_refused": {"Kode ini tidak diterima Finpay. Periksa dan ketik sekali lagi.", "Finpay does not take this code. Check it and type it once more."},
			"notice.code_unspent": {"Kode belum terkirim. Silakan kirim sekali lagi.", "The code was not sent. Please send it once more."},
			"notice.code_unsure":  {"Belum pasti apakah kode diterima. Mohon tunggu; layar ini berubah sendiri.", "It is not certain yet whether the code was taken. Please wait; this screen changes by itself."},
			"do.finish":           {"Tinggalkan layar ini", "Leave this screen"},
			"notice.earlier":      {"Ini permintaan Anda yang tadi; masih berjalan.", "This is your earlier request; it is still open."},
		},
	},
	{
		State: OTP, Limit: entryLimit, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneWaiting,
		Commands: []Command{cmdOTP, cmdResend, cmdFinish},
		Texts: Texts{
			"title":          {"Masukkan kode OTP", "Enter the OTP code"},
			"body":           {"Finpay mengirim kode sekali pakai ke ponsel Anda. Akun baru dilepas setelah kode ini diterima.", "Finpay sent a one-time code to your phone. The account is unlinked only once this code is accepted."},
			"label":          {"Kode OTP", "OTP code"},
			"left":           {"Kode berlaku", "The code is valid for"},
			"late":           {"Waktu untuk kode ini sudah habis.", "The time for this code is over."},
			"do.submit_otp":  {"Kirim kode", "Send the code"},
			"do.resend":      {"Minta kode baru", "Get a new code"},
			"do.finish":      {"Tidak jadi, tinggalkan", "Leave without unlinking"},
			"notice.cleared": {"Demi keamanan, kode yang sudah diketik telah dihapus.", "For your safety the code you typed was erased."},
			"notice.unsure":  {"Belum pasti apakah kode tersimpan. Mohon tunggu; layar ini berubah sendiri.", "It is not certain yet that the code was saved. Please wait; this screen changes by itself."},
			"notice.unsaved": {"Kode belum tersimpan. Silakan ketik sekali lagi.", "The code was not saved. Please type it once more."},
			"notice.earlier": {"Ini permintaan Anda yang tadi; masih menunggu kode.", "This is your earlier request; it still waits for the code."},
		},
	},
	{
		State: OTPBad, Limit: entryLimit, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneWaiting,
		Commands: []Command{cmdOTP, cmdResend, cmdFinish},
		Texts: Texts{
			"title":          {"Kode OTP tidak cocok", "That OTP code is not right"},
			"body":           {"Belum ada yang berubah. Periksa pesan terbaru di ponsel Anda dan ketik kodenya sekali lagi.", "Nothing has changed. Check the newest message on your phone and type the code once more."},
			"label":          {"Kode OTP", "OTP code"},
			"left":           {"Kode berlaku", "The code is valid for"},
			"late":           {"Waktu untuk kode ini sudah habis.", "The time for this code is over."},
			"do.submit_otp":  {"Kirim kode", "Send the code"},
			"do.resend":      {"Minta kode baru", "Get a new code"},
			"do.finish":      {"Tidak jadi, tinggalkan", "Leave without unlinking"},
			"notice.cleared": {"Demi keamanan, kode yang sudah diketik telah dihapus.", "For your safety the code you typed was erased."},
			"notice.unsure":  {"Belum pasti apakah kode tersimpan. Mohon tunggu; layar ini berubah sendiri.", "It is not certain yet that the code was saved. Please wait; this screen changes by itself."},
			"notice.unsaved": {"Kode belum tersimpan. Silakan ketik sekali lagi.", "The code was not saved. Please type it once more."},
			"notice.earlier": {"Ini permintaan Anda yang tadi; masih menunggu kode.", "This is your earlier request; it still waits for the code."},
		},
	},
	{
		State: OTPExpired, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneNothing,
		Commands: []Command{cmdReceipt, cmdFinish},
		Texts: Texts{
			"title": {"Kode OTP sudah tidak berlaku", "The OTP code is no longer valid"},
			"body":  {"Akun Anda tetap terhubung; tidak ada yang berubah. Anda boleh memulai lagi dari awal.", "Your account is still linked; nothing has changed. You may start again from the beginning."},
		},
	},
	{
		State: OTPLocked, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneFailed,
		Commands: []Command{cmdReceipt, cmdFinish},
		Texts: Texts{
			"title": {"Kode OTP terlalu sering salah", "Too many wrong OTP codes"},
			"body":  {"Akun Anda tetap terhubung; tidak ada yang berubah. Finpay menutup percobaan ini demi keamanan. Coba lagi lain waktu atau hubungi Finpay.", "Your account is still linked; nothing has changed. Finpay closed this attempt for safety. Try again another time, or contact Finpay."},
		},
	},
	{
		State: Done, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneDone,
		Commands: []Command{cmdReceipt, cmdFinish},
		Texts: Texts{
			"title":                   {"Berhasil", "Done"},
			"title.finpay.reset_pin":  {"Permintaan diterima Finpay", "Finpay has accepted the request"},
			"title.netzme.forgot_pin": {"Permintaan diterima Netzme", "Netzme has accepted the request"},
			"title.finpay.bind":       {"Akun Finpay terhubung", "Your Finpay account is linked"},
			"title.finpay.unbind":     {"Akun Finpay sudah dilepas", "Your Finpay account is unlinked"},
			"title.prepaid.reset_pin": {"PIN kartu sudah diganti", "Your card's PIN has been changed"},
			"body":                    {"Permintaan Anda selesai.", "Your request is complete."},
			"body.finpay.reset_pin":   {"PIN belum berubah sekarang: ikuti petunjuk pada pesan yang dikirim Finpay ke ponsel Anda.", "Your PIN has not changed yet: follow the message that Finpay sends to your phone."},
			"body.netzme.forgot_pin":  {"PIN baru dikirim ke nomor ponsel yang terdaftar di Netzme. Mesin ini tidak pernah melihatnya.", "Your new PIN is sent to the mobile number registered with Netzme. This machine never sees it."},
			"body.finpay.bind":        {"Akun Anda sekarang dapat dipakai lewat bank kami.", "Your account can now be used through our bank."},
			"body.finpay.unbind":      {"Akun ini tidak bisa lagi dipakai lewat bank kami. Saldo Anda tetap di Finpay.", "This account can no longer be used through our bank. Your balance stays with Finpay."},
			"body.prepaid.reset_pin":  {"Pakai PIN baru mulai sekarang. Jangan beri tahu siapa pun.", "Use the new PIN from now on. Tell nobody."},
			"again":                   {"Permintaan berikutnya bisa dibuat dalam", "You can ask again in"},
			"again.over":              {"Anda sudah bisa membuat permintaan lagi.", "You can ask again now."},
		},
	},
	{
		State: Fail, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneFailed,
		Commands: []Command{cmdReceipt, cmdFinish},
		Texts: Texts{
			"title":                 {"Tidak berhasil. Tidak ada yang berubah.", "It did not work. Nothing has changed."},
			"title.offline_refused": {"Tidak bisa sekarang. Tidak ada yang disimpan.", "Not possible now. Nothing was kept."},
			"title.card_mismatch":   {"Data kartu tidak cocok. Tidak ada yang berubah.", "The card details do not match. Nothing has changed."},
			"title.card_unchecked":  {"Kartu belum dapat diperiksa. Tidak ada yang berubah.", "The card could not be checked. Nothing has changed."},
			"body.card_mismatch":    {"PIN kartu Anda tetap seperti semula. Percobaan dibatasi demi keamanan kartu.", "Your card's PIN is as it was. For the card's safety, the number of attempts is limited."},
			"title.already_linked":  {"Akun ini sudah terhubung", "This account is already linked"},
			"title.not_linked":      {"Akun ini memang tidak terhubung", "This account is not linked"},
			"body":                  {"PIN dan akun Anda tetap seperti semula.", "Your PIN and account have not changed."},
			"body.offline_refused":  {"Silakan coba lagi bila jaringan sudah kembali.", "Please try again when the connection is back."},
			"body.already_linked":   {"Tidak ada yang perlu dilakukan.", "There is nothing to do."},
			"body.not_linked":       {"Tidak ada yang perlu dilepas.", "There is nothing to unlink."},
			"reason.otp_wanted":     {"Penyedia layanan meminta kode sekali pakai, yang tidak dipakai untuk layanan ini.", "The provider asks for a one-time code, which this service does not use."},
		},
	},
	{
		State: Expired, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneNothing,
		Commands: []Command{cmdReceipt, cmdFinish},
		Texts: Texts{
			"title": {"Waktunya habis. Tidak ada yang berubah.", "Time ran out. Nothing has changed."},
			"body":  {"Anda boleh membuat permintaan baru kapan saja.", "You may make a new request at any time."},
		},
	},
	{
		State: Cancelled, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneNothing,
		Commands: []Command{cmdReceipt, cmdFinish},
		Texts: Texts{
			"title": {"Dibatalkan. Tidak ada yang dikirim.", "Cancelled. Nothing was sent."},
			"body":  {"PIN dan akun Anda tetap seperti semula.", "Your PIN and account have not changed."},
		},
	},
	{
		State: Unresolved, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneDoubt,
		Commands: []Command{cmdReceipt, cmdFinish},
		Texts: Texts{
			"title": {"Hasilnya tidak dapat kami pastikan", "We could not find out the result"},
			"body":  {"Permintaan sudah dikirim dan mungkin berhasil. Petugas akan memeriksanya; bawa nomor ini bila bertanya.", "The request was sent and may have worked. Staff will look into it; bring this number when you ask."},
		},
	},
	{
		// The journal did not say whether it stored the request.
		State: Unsure, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Tone: ToneDoubt,
		Commands: []Command{cmdReceipt, cmdFinish},
		Texts: Texts{
			"title": {"Kami belum yakin permintaan Anda tersimpan", "We are not sure that your request was saved"},
			"body":  {"Jangan ulangi dulu: permintaan mungkin tetap dikirim. Tunjukkan nomor ini kepada petugas.", "Do not repeat it yet: the request may still be sent. Show this number to staff."},
		},
	},
	{
		State: Cooldown, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Tone: ToneNothing,
		Commands: []Command{cmdFinish},
		Texts: Texts{
			"title": {"Anda baru saja meminta ini", "You asked for this a moment ago"},
			"body":  {"Periksa dulu pesan di ponsel Anda. Belum ada permintaan baru yang dibuat.", "Check the messages on your phone first. No new request was made."},
			"again": {"Bisa diminta lagi dalam", "You can ask again in"},
			"over":  {"Sekarang sudah bisa diminta lagi.", "You can ask again now."},
		},
	},
	{
		State: Limit, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Tone: ToneNothing,
		Commands: []Command{cmdFinish},
		Texts: Texts{
			"title":       {"Terlalu banyak permintaan dalam satu jam", "Too many requests within one hour"},
			"body":        {"Demi keamanan Anda, permintaan ini tidak dibuat.", "For your safety this request was not made."},
			"title.kiosk": {"Mesin ini sedang terlalu sibuk", "This machine is too busy right now"},
			"body.kiosk":  {"Permintaan ini tidak dibuat. Silakan coba nanti atau minta bantuan petugas.", "This request was not made. Please try later or ask staff."},
			"again":       {"Bisa dicoba lagi dalam", "You can try again in"},
			"over":        {"Sekarang sudah bisa dicoba lagi.", "You can try again now."},
		},
	},
	{
		State: Full, Limit: resultLimit, Ask: true, Then: Attract, Wipes: true, Tone: ToneNothing,
		Commands: []Command{cmdFinish},
		Texts: Texts{
			"title": {"Mesin ini belum bisa menerima permintaan baru", "This machine cannot take new requests right now"},
			"body":  {"Tempat penyimpanannya penuh. Permintaan Anda tidak dibuat dan tidak ada yang dikirim. Silakan minta bantuan petugas.", "Its storage is full. Your request was not made and nothing was sent. Please ask staff."},
		},
	},
	{
		// Long enough to take out a phone and scan.
		State: Receipt, Limit: menuLimit, Ask: true, Then: Attract, Wipes: true, Shows: true, Tone: ToneCalm,
		Commands: []Command{cmdBack, cmdFinish},
		Texts: Texts{
			"title":     {"Bukti untuk Anda", "Your receipt"},
			"body":      {"Pindai dengan ponsel, atau catat nomor dan kodenya. Bukti ini tidak memuat PIN atau data rahasia.", "Scan it with your phone, or note the number and code. It holds no PIN and nothing secret."},
			"alt":       {"Kode QR bukti", "QR code of the receipt"},
			"service":   {"Layanan", "Service"},
			"status":    {"Status", "Status"},
			"reference": {"Nomor", "Number"},
			"code":      {"Kode", "Code"},
			"time":      {"Waktu", "Time"},
		},
	},
	{
		// Long enough to read two words.
		State: Goodbye, Limit: 5 * time.Second, Then: Attract, Wipes: true, Tone: ToneCalm,
		Texts: Texts{
			"title": {"Terima kasih", "Thank you"},
			"body":  {"Jangan lupa kartu dan barang Anda. Layar ini segera dibersihkan.", "Do not forget your card and belongings. This screen is being cleared."},
		},
	},
}
