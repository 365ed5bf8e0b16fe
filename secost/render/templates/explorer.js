// `ast` makes Vega interpret its expressions: compiling them would need unsafe-eval, which the policy forbids.
(function () {
  var section = document.getElementById("explorer-section");
  var chart = JSON.parse(document.getElementById("explorer-chart").textContent);
  section.hidden = false;
  vegaEmbed("#explorer", chart, { actions: false, renderer: "svg", ast: true }).catch(function (error) {
    section.hidden = true;
    console.error(error);
  });
})();
