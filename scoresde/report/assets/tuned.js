// The page of a tuned solver: each chart says which of the data are its own.

const drawn = JSON.parse(document.getElementById("data").textContent);
for (const host of document.querySelectorAll("figure.chart")) new Chart(host, drawn[host.dataset.of], () => true).draw();
